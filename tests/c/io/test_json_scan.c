#include "io/json_scan.h"

#include "check.h"

static cch_error err;
static char seen[1000], buffer[1000];
static cch_json_sink sink;
static char stop_at; /* the event that fails; 0 = none */

static cch_status say(char event, const char *text, size_t len) {
    if (event == stop_at) return CCH_E_BUSY;
    snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%c%.*s ", event, (int)len, text);
    return CCH_OK;
}
static cch_status on_open(void *arg, bool object) { (void)arg; return say(object ? '{' : '[', "", 0); }
static void on_close(void *arg) { (void)arg; say('.', "", 0); }
static cch_status on_string(void *arg, const char *text, size_t len) { (void)arg; return say('s', text, len); }
static cch_status on_word(void *arg, char first) { (void)arg; return say(first, "", 0); }
static cch_status on_key(void *arg, const char *text, size_t len, size_t position) {
    (void)arg;
    CHECK_EQ(text[len], 0);
    char with_position[200];
    return say('k', with_position, (size_t)snprintf(with_position, 200, "%s@%zu", text, position));
}
static cch_status on_number(void *arg, const char *text, size_t len, bool is_whole) {
    (void)arg;
    return say(is_whole ? 'i' : 'd', text, len);
}

static cch_status scan(const char *text, size_t len) {
    sink = (cch_json_sink){NULL, on_open, on_close, on_key, on_string, on_number, on_word, buffer};
    seen[0] = '\0';
    return cch_json_scan(text, len, "t", 4, &sink, &err);
}

static void check_events(const char *text, const char *want) {
    CHECK_OK(scan(text, strlen(text)), err);
    if (strcmp(seen, want) != 0) fprintf(stderr, "%s gave %s\n", text, seen);
    CHECK(strcmp(seen, want) == 0);
}

TEST(events_come_in_the_order_of_the_text) {
    check_events("  {\"ab\": [1, \"x\", {}], \"c\": {\"\": null}} \n", "{ kab@3 [ i1 sx { . . kc@23 { k@29 n . . ");
    check_events("[true,false,-0,1.5,2E3,-7]", "[ t f i-0 d1.5 d2E3 i-7 . ");
    check_events("\"\"", "s ");
    check_events(" 12 ", "i12 ");
}

TEST(escapes_decode_to_what_they_stand_for) {
    check_events("\"\\\"\\\\\\/\"", "s\"\\/ ");
    check_events("\"\\b\\f\\n\\r\\t\"", "s\b\f\n\r\t ");
    check_events("\"\\u0041\\u00e9\\u20AC\\uD83d\\uDe00\\uFFFF\"",
                 "sA\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xEF\xBF\xBF ");
    check_events("\"\xC3\xA9\x7F\"", "s\xC3\xA9\x7F ");
}

TEST(every_prefix_of_a_text_is_refused_at_its_end) {
    const char *text = "{\"k\\u00e9y\": [true, false, null, -1.5e+3, \"\xE2\x82\xAC\"]}";
    for (size_t n = 0; n < strlen(text); n++) {
        CHECK_STATUS(scan(text, n), CCH_E_FORMAT, err, "t: ");
        CHECK(err.position >= 0 && err.position <= (int64_t)n);
    }
}

TEST(a_sink_can_end_the_scan) {
    for (const char *event = "{k[stfnid"; *event != '\0'; event++) {
        const char *text = "{\"a\":[\"\",true,false,null,1,1.5]}";
        stop_at = *event;
        CHECK_EQ(scan(text, strlen(text)), CCH_E_BUSY);
    }
    stop_at = 0;
}

CHECK_MAIN()
