/* The way with the highest sum, worked out by hand; normalizing; long texts; what pieces may not be. */
#include "tok/unigram.h"

#include "check.h"
#include "tok/charmapfile.h"

static cch_error err;

#define SP "\xE2\x96\x81"

/* "<unk>" 0, "##" 1 (user-defined), "<x>" 2 (special), then these. */
enum { A = 3, B, AB, ABC, SPACE, SPACE_A, E_ACUTE };

static cch_status make(bool map, cch_unigram *u, cch_error *e) {
    static const struct { const char *text; float score; cch_piece_type type; } items[] = {
        {"<unk>", 0, CCH_PIECE_UNKNOWN}, {"##", 0, CCH_PIECE_USER_DEFINED}, {"<x>", 0, CCH_PIECE_SPECIAL},
        {"a", -2, CCH_PIECE_NORMAL}, {"b", -3, CCH_PIECE_NORMAL}, {"ab", -4, CCH_PIECE_NORMAL},
        {"abc", -20, CCH_PIECE_NORMAL}, {SP, -2.5f, CCH_PIECE_NORMAL}, {SP "a", -3.5f, CCH_PIECE_NORMAL},
        {"\xC3\xA9", -6, CCH_PIECE_NORMAL}, {"aaaa", 0, CCH_PIECE_UNUSED}, {"</s>", 0, CCH_PIECE_CONTROL}};
    static uint32_t units[CHARMAP_UNITS];
    cch_status status = CCH_OK;
    *u = (cch_unigram){0};
    for (size_t i = 0; i < sizeof items / sizeof *items; i++)
        CCH_TRY(cch_unigram_add(u, items[i].text, strlen(items[i].text), items[i].score, items[i].type, e));
    if (map) {
        charmap_write(units);
        pieces blob = charmap_blob(units);
        CCH_TRY(cch_charmap_load(&u->map, (const char *)blob.data, blob.n, e));
    }
    CCH_TRY(cch_unigram_finish(u, e));
done:
    if (status != CCH_OK) cch_unigram_deinit(u);
    return status;
}

static cch_status encode(const cch_unigram *u, const char *text, bool continues, bool plain, int32_t **ids, size_t *n) {
    cch_status status = CCH_OK;
    cch_bpe_work *work = NULL;
    cch_unigram_work scratch = {0};
    *ids = NULL;
    CCH_TRY(cch_bpe_work_new(&work, NULL));
    CCH_TRY(cch_unigram_text(u, &scratch, work, text, strlen(text), continues, plain, NULL));
    cch_bpe_work_take(work, ids, n);
done:
    cch_unigram_work_deinit(&scratch);
    cch_bpe_work_free(work);
    return status;
}

static void check_ids(const cch_unigram *u, const char *text, bool continues, bool plain, const int32_t *want) {
    int32_t *ids = NULL;
    size_t n = 0, n_want = 0;
    CHECK_EQ(encode(u, text, continues, plain, &ids, &n), CCH_OK);
    while (want[n_want] >= 0) n_want++;
    if (n != n_want || (n > 0 && memcmp(ids, want, n * sizeof *ids) != 0)) {
        fprintf(stderr, "\"%s\" gave", text);
        for (size_t i = 0; i < n; i++) fprintf(stderr, " %d", ids[i]);
        fprintf(stderr, "\n");
        check_failures++;
    }
    cch_free(ids);
}

#define IDS(u, text, ...) check_ids((u), (text), false, false, (int32_t[]){__VA_ARGS__, -1})
#define NO_IDS(u, text) check_ids((u), (text), false, false, (int32_t[]){-1})

TEST(the_best_way) {
    cch_unigram u;
    CHECK_OK(make(false, &u, &err), err);
    IDS(&u, "ab", AB);              /* -4, not -5 */
    IDS(&u, "a", A);
    IDS(&u, "aab", A, AB);
    IDS(&u, "abc", ABC);            /* -20; c alone is -30 */
    IDS(&u, "cc", 0);               /* unknown pieces in a row are one */
    IDS(&u, "cac", 0, A, 0);
    IDS(&u, "a a", A, SPACE_A);     /* -3.5, not -4.5 */
    IDS(&u, "aaaa", A, A, A, A);    /* the unused piece is none */
    IDS(&u, "a##b", A, 1, B);
    IDS(&u, "#", 0);
    IDS(&u, "<x>", 2);
    check_ids(&u, "<x>a", false, true, (int32_t[]){0, A, -1});
    IDS(&u, "\xC3\xA9\xE2\x82\xAC", E_ACUTE, 0);
    IDS(&u, "<unk></s>", 0);        /* neither is found by its spelling */
    cch_unigram_deinit(&u);
}

TEST(white_space) {
    cch_unigram u;
    CHECK_OK(make(false, &u, &err), err);
    IDS(&u, "  a   a ", A, SPACE_A);
    NO_IDS(&u, "   ");
    check_ids(&u, "  a", true, false, (int32_t[]){SPACE_A, -1}); /* goes on: the space counts */
    check_ids(&u, "b", true, false, (int32_t[]){B, -1});
    IDS(&u, " " SP " a", SPACE, SPACE_A); /* a U+2581 of the text is no white space to collapse, */
    IDS(&u, "a" SP, A);                  /* but goes with that at the end, as in the reference */
    u.add_dummy_prefix = true;
    IDS(&u, "a", SPACE_A);
    IDS(&u, " b", SPACE, B);
    NO_IDS(&u, "  ");
    check_ids(&u, "a", true, false, (int32_t[]){A, -1});
    u.keep_whitespace = true;
    IDS(&u, " a ", SPACE, SPACE_A, SPACE);
    u.add_dummy_prefix = false;
    IDS(&u, "  a ", SPACE, SPACE_A, SPACE);
    u.plain_spaces = true;
    IDS(&u, "a a", A, 0, A);
    cch_unigram_deinit(&u);
}

TEST(character_map) {
    cch_unigram u;
    CHECK_OK(make(true, &u, &err), err);
    IDS(&u, "A\tA", A, SPACE_A);
    IDS(&u, "\ta\t\t", A);
    IDS(&u, "ABA", 0, A);          /* xy is unknown */
    IDS(&u, "a\xC3\xA9", A, 0);    /* the map takes half a character: U+FFFD for the other half */
    cch_unigram_deinit(&u);
}

TEST(bytes_of_what_is_not_covered) {
    cch_unigram u = {.byte_fallback = true};
    char text[8];
    CHECK_OK(cch_unigram_add(&u, "<unk>", 5, 0, CCH_PIECE_UNKNOWN, &err), err);
    for (int b = 0; b < 256; b++) {
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)b);
        CHECK_OK(cch_unigram_add(&u, text, 6, 0, CCH_PIECE_BYTE, &err), err);
    }
    CHECK_OK(cch_unigram_add(&u, "a", 1, -1, CCH_PIECE_NORMAL, &err), err);
    CHECK_OK(cch_unigram_finish(&u, &err), err);
    IDS(&u, "a\xE2\x82\xAC\xC3\xA9" "a", 257, 1 + 0xE2, 1 + 0x82, 1 + 0xAC, 1 + 0xC3, 1 + 0xA9, 257);
    IDS(&u, "a a", 257, 1 + 0xE2, 1 + 0x96, 1 + 0x81, 257);
    cch_unigram_deinit(&u);
}

/* A long text gives what its parts give, and scratch that does not grow with it. */
TEST(long_texts_settle) {
    cch_unigram u;
    cch_unigram_work scratch = {0};
    cch_bpe_work *work = NULL;
    const size_t n = 300000;
    char *text = malloc(n);
    int32_t *ids = NULL;
    size_t n_ids;
    CHECK_OK(make(false, &u, &err), err);
    CHECK_OK(cch_bpe_work_new(&work, &err), err);
    for (size_t i = 0; i < n; i++) text[i] = "ab a"[i % 4];
    CHECK_OK(cch_unigram_text(&u, &scratch, work, text, n, false, false, &err), err);
    CHECK(scratch.steps_cap < 4 * CCH_PIECE_MAX_BYTES);
    cch_bpe_work_take(work, &ids, &n_ids);
    CHECK_EQ(n_ids, n / 2);
    for (size_t i = 0; i < n_ids && check_failures == 0; i++) CHECK_EQ(ids[i], i % 2 == 0 ? AB : SPACE_A);
    cch_unigram_work_trim(&scratch, 10);
    CHECK(scratch.steps == NULL);
    cch_free(ids);
    cch_unigram_work_deinit(&scratch);
    cch_bpe_work_free(work);
    cch_unigram_deinit(&u);
    free(text);
}

static void refused(const char *text, size_t len, float score, const char *words) {
    cch_unigram u = {0};
    CHECK_OK(cch_unigram_add(&u, "a", 1, 0, CCH_PIECE_NORMAL, &err), err);
    CHECK_STATUS(cch_unigram_add(&u, text, len, score, CCH_PIECE_NORMAL, &err), CCH_E_FORMAT, err, words);
    CHECK_EQ(err.position, 1);
    cch_unigram_deinit(&u);
}

TEST(pieces_that_are_refused) {
    char big[CCH_PIECE_MAX_BYTES + 1];
    memset(big, 'x', sizeof big);
    refused("", 0, 0, "piece 1 has 0 bytes, allowed: 1 to 1000");
    refused(big, sizeof big, 0, "piece 1 has 1001 bytes");
    refused("\xFF", 1, 0, "piece 1 is not UTF-8");
    refused("b", 1, NAN, "the score of piece 1 is");
    refused("b", 1, -INFINITY, "the score of piece 1 is -inf");
    refused("a", 1, 0, "piece 1 repeats \"a\"");
}

static void unfinished(const char *text, cch_piece_type type, bool byte_fallback, const char *words) {
    cch_unigram u = {.byte_fallback = byte_fallback};
    if (type != CCH_PIECE_NORMAL) CHECK_OK(cch_unigram_add(&u, "<unk>", 5, 0, CCH_PIECE_UNKNOWN, &err), err);
    CHECK_OK(cch_unigram_add(&u, text, strlen(text), 0, type, &err), err);
    CHECK_STATUS(cch_unigram_finish(&u, &err), CCH_E_FORMAT, err, words);
    cch_unigram_deinit(&u);
}

TEST(models_that_are_refused) {
    unfinished("a", CCH_PIECE_NORMAL, false, "no piece is the unknown piece");
    unfinished("a", CCH_PIECE_UNKNOWN, false, "pieces 0 and 1 are both the unknown piece");
    unfinished("<0x41>", CCH_PIECE_BYTE, false, "piece 1 is a byte, but the model is without byte fallback");
    unfinished("<0x41>", CCH_PIECE_BYTE, true, "without the byte piece <0x00>");
    unfinished("<0x4G>", CCH_PIECE_BYTE, true, "byte piece 1 is \"<0x4G>\", allowed: <0x00> to <0xFF>");
    unfinished("<1x41>", CCH_PIECE_BYTE, true, "byte piece 1");
    unfinished("<0x41", CCH_PIECE_BYTE, true, "byte piece 1");
}

static cch_status all_of_it(void) {
    cch_unigram u;
    int32_t *ids;
    size_t n;
    CCH_RETURN_IF(make(true, &u, NULL));
    cch_status status = encode(&u, "ab c A", false, false, &ids, &n);
    cch_free(ids);
    cch_unigram_deinit(&u);
    return status;
}

TEST(memory_runs_out) { CHECK_OOM(all_of_it()); }

CHECK_MAIN()
