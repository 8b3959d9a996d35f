/* The checks themselves: each invariant of kv/page.h, broken by hand, is noticed and named. */
#include "toy.h"

static cch_model model;
static cch_state *state, *fork_;

/* Two states on five pages; the fork's tail has yet to copy. */
static void set_up(void) {
    cch_error err;
    toy_open(&model, 100);
    state = toy_state_of(&model, 60);
    CHECK(toy_eval(&model, state));
    CHECK_OK(cch_state_fork(state, &fork_, &err), err);
    CHECK_OK(cch_state_append(fork_, toy_ids(1), 1, &err), err);
    toy_check(&model, state);
    toy_check(&model, fork_);
}

static void tear_down(void) {
    toy_check(&model, state);
    toy_check(&model, fork_);
    cch_state_free(state);
    cch_state_free(fork_);
    toy_close(&model);
}

/* With `place` changed to `value`, the pool's check fails and says `words`; then everything is as before. */
#define BREAK(place, value, words)                                                    \
    do {                                                                              \
        cch_error err_;                                                               \
        __typeof__(place) keep_ = (place);                                            \
        (place) = (value);                                                            \
        CHECK_STATUS(cch_pool_check(model.pool, &err_), CCH_E_INTERNAL, err_, words); \
        (place) = keep_;                                                              \
    } while (0)

TEST(every_broken_invariant_of_the_pool_is_named) {
    set_up();
    cch_page *tail = state->tail, *copy = fork_->tail, *page = tail->prev;
    BREAK(page->refs, 3, "page 2 has 1 owners, 0 live owners and 0 borrowers more");
    BREAK(page->live, 1, "0 owners, -1 live owners");
    BREAK(tail->borrowers, 0, "-1 borrowers");
    BREAK(model.pool->n_pages, 4, "counted as 4");
    BREAK(model.pool->n_cached, 1, "counted as 5 and 1");
    BREAK(page->n_tokens, 15, "follows a page that is not full");
    BREAK(tail->n_tokens, 17, "holds no tokens or more than 16");
    BREAK(tail->index, 4, "has the wrong index");
    BREAK(tail->n_kv, 13, "is ready beyond its tokens");
    BREAK(copy->n_kv, 1, "is ready without a block");
    BREAK(tail->known, true, "is known but not full");
    BREAK(page->prev->known, false, "is known behind an unknown page");
    BREAK(page->tokens[3], page->tokens[3] + 1, "is known but not found");
    BREAK(copy->from_n, 0, "copies more than its tokens");
    BREAK(tail->from_n, 1, "copies from nobody");
    BREAK(copy->kv, tail->kv, "has a block and a pending copy");
    BREAK(model.pool->kv_bytes, 0, "counted as 0 bytes");
    BREAK(model.pool->live.last, page, "wrong end");
    BREAK(model.pool->n_spare, 1, "0 spare blocks");
    BREAK(model.pool->known.n_pages, 2, "3 known pages");
    tear_down();
}

TEST(a_broken_state_is_named) {
    cch_error err;
    set_up();
    atomic_store(&state->length, 61);
    CHECK_STATUS(cch_state_check(state, &err), CCH_E_INTERNAL, err, "sees 13 slots of a page of 12");
    atomic_store(&state->length, 60);
    state->n_ctx = 59;
    CHECK_STATUS(cch_state_check(state, &err), CCH_E_INTERNAL, err, "60 tokens, the context holds 59");
    state->n_ctx = TOY_CTX;
    state->ready = 61;
    CHECK_STATUS(cch_state_check(state, &err), CCH_E_INTERNAL, err, "61 tokens taken for ready");
    state->ready = 60;
    cch_page *first = state->pages[0];
    state->pages[0] = state->pages[1];
    CHECK_STATUS(cch_state_check(state, &err), CCH_E_INTERNAL, err, "entry 0");
    state->pages[0] = first;
    int32_t token = state->tail->tokens[2];
    state->tail->tokens[2] = TOY_VOCAB;
    CHECK_STATUS(cch_state_check(state, &err), CCH_E_INTERNAL, err, "token id 7");
    state->tail->tokens[2] = token;
    tear_down();
}

CHECK_MAIN()
