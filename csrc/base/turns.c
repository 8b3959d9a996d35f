#include "base/turns.h"

cch_status cch_turns_init(cch_turns *turns, cch_error *err) {
    *turns = (cch_turns){.drawn = 0};
    if (pthread_mutex_init(&turns->lock, NULL) != 0)
        CCH_FAIL(err, CCH_E_MEMORY, -1, "the system has no room for a lock");
    if (pthread_cond_init(&turns->next, NULL) == 0) return CCH_OK;
    pthread_mutex_destroy(&turns->lock);
    CCH_FAIL(err, CCH_E_MEMORY, -1, "the system has no room for a lock");
}

void cch_turns_deinit(cch_turns *turns) {
    pthread_cond_destroy(&turns->next);
    pthread_mutex_destroy(&turns->lock);
}

bool cch_turns_take(cch_turns *turns) {
    pthread_mutex_lock(&turns->lock);
    bool waits = !turns->taken || !pthread_equal(turns->holder, pthread_self());
    if (waits) {
        uint64_t number = turns->drawn++;
        while (turns->served != number) pthread_cond_wait(&turns->next, &turns->lock);
        turns->taken = true;
        turns->holder = pthread_self();
    }
    pthread_mutex_unlock(&turns->lock);
    return waits;
}

void cch_turns_give(cch_turns *turns) {
    pthread_mutex_lock(&turns->lock);
    turns->served++;
    turns->taken = false;
    pthread_cond_broadcast(&turns->next);
    pthread_mutex_unlock(&turns->lock);
}
