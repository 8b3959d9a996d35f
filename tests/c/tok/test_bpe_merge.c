/* Merging: both algorithms against the definition, and a run that would take quadratic code minutes. */
#include "check.h"
#include "base/alloc.h"
#include "tok/bpe_work.h"

static cch_error err;

/* Tokens "a".."d" and what random merges of them make. */
static void random_model(cch_bpe *bpe, uint32_t seed) {
    char names[40][24];
    size_t n = 4, n_merges = 0;
    memset(bpe, 0, sizeof *bpe);
    bpe->unk_id = -1;
    for (size_t i = 0; i < 4; i++) {
        names[i][0] = (char)('a' + i);
        names[i][1] = '\0';
        CHECK_OK(cch_strmap_put(&bpe->vocab, names[i], 1, (int32_t)i, NULL, &err), err);
    }
    CHECK_OK(cch_bpe_reserve_merges(bpe, 200, &err), err);
    while (n < 40 && n_merges < 200) {
        seed = seed * 1664525 + 1013904223;
        const char *a = names[(seed >> 8) % n], *b = names[(seed >> 20) % n];
        char both[48];
        bool old = false;
        snprintf(both, sizeof both, "%s%s", a, b);
        if (strlen(both) < sizeof names[0]) {
            CHECK_OK(cch_strmap_put(&bpe->vocab, both, strlen(both), (int32_t)n, &old, &err), err);
            if (!old) strcpy(names[n++], both);
            CHECK_OK(cch_bpe_add_merge(bpe, a, strlen(a), b, strlen(b), (uint32_t)n_merges, &err), err);
        }
        n_merges++;
    }
    CHECK_OK(cch_bpe_finish(bpe, &err), err);
}

/* The definition: the lowest rank, of equals the leftmost, until nothing merges. */
static size_t merge_by_definition(const cch_bpe *bpe, int32_t *symbols, size_t n) {
    for (;;) {
        const cch_merge *best = NULL;
        size_t where = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            const cch_merge *merge = cch_bpe_find_merge(bpe, symbols[i], symbols[i + 1]);
            if (merge != NULL && (best == NULL || merge->rank < best->rank)) {
                best = merge;
                where = i;
            }
        }
        if (best == NULL) return n;
        symbols[where] = best->id;
        memmove(symbols + where + 1, symbols + where + 2, (n - where - 2) * sizeof *symbols);
        n--;
    }
}

TEST(short_and_long_words_follow_the_definition) {
    for (uint32_t model = 1; model <= 20; model++) {
        cch_bpe bpe;
        cch_bpe_work *work = NULL;
        random_model(&bpe, model);
        CHECK_OK(cch_bpe_work_new(&work, &err), err);
        uint32_t seed = model * 77;
        for (int round = 0; round < 200; round++) {
            int32_t got[300], want[300];
            size_t n = 1 + (size_t)round * 3 / 2 % 299, n_got = n;
            for (size_t i = 0; i < n; i++) {
                seed = seed * 1664525 + 1013904223;
                got[i] = want[i] = (int32_t)((seed >> 16) % (round % 3 == 0 ? 2 : 4));
            }
            size_t n_want = merge_by_definition(&bpe, want, n);
            CHECK_OK(cch_bpe_merge(&bpe, work, got, &n_got, &err), err);
            CHECK_EQ(n_got, n_want);
            CHECK(memcmp(got, want, n_want * sizeof *got) == 0);
        }
        cch_bpe_work_free(work);
        cch_bpe_deinit(&bpe);
    }
}

TEST(a_megabyte_of_one_letter) {
    const size_t n = 1 << 20;
    cch_bpe bpe = {.unk_id = -1};
    cch_bpe_work *work = NULL;
    char name[65];
    memset(name, 'a', sizeof name);
    CHECK_OK(cch_bpe_reserve_merges(&bpe, 6, &err), err);
    for (int32_t i = 0; i <= 6; i++) CHECK_OK(cch_strmap_put(&bpe.vocab, name, (size_t)1 << i, i, NULL, &err), err);
    for (uint32_t i = 0; i < 6; i++)
        CHECK_OK(cch_bpe_add_merge(&bpe, name, (size_t)1 << i, name, (size_t)1 << i, i, &err), err);
    CHECK_OK(cch_bpe_finish(&bpe, &err), err);
    CHECK_OK(cch_bpe_work_new(&work, &err), err);
    int32_t *symbols = cch_zalloc(n, sizeof *symbols);
    size_t left = n;
    CHECK_OK(cch_bpe_merge(&bpe, work, symbols, &left, &err), err);
    CHECK_EQ(left, n / 64);
    for (size_t i = 0; i < left; i++) CHECK(symbols[i] == 6);
    cch_free(symbols);
    cch_bpe_work_free(work);
    cch_bpe_deinit(&bpe);
}

CHECK_MAIN()
