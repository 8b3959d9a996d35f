/* driver - runs a fuzz target where libFuzzer is missing (gcc builds): replays inputs, and can mutate them for a while.
 *
 *     fuzz_json corpus/json                  every file once (folders are not searched below their first level)
 *     fuzz_json -seconds 60 corpus/json      then random mutations of them for a minute
 *     fuzz_json -seconds 60 -seed 7 ...      other ones
 *
 * Prints the number of executions.  The input being run is kept in the file `fuzz-input` of the working folder while
 * mutating, so that after a crash it is there to be replayed.  There is no coverage feedback: libFuzzer
 * (make fuzz with clang) goes deeper; this keeps the corpus alive on every compiler.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX ((size_t)1 << 16)
#define MAX_INPUTS 4096

static struct { uint8_t *data; size_t size; } inputs[MAX_INPUTS];
static size_t n_inputs;
static unsigned long long executions;
static uint64_t random_state = 1;

static uint64_t random_below(uint64_t n) {
    random_state += 0x9E3779B97F4A7C15u; /* splitmix64 */
    uint64_t z = random_state;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (z ^ z >> 31) % n;
}

/* From an allocation of exactly its size, so that a sanitizer sees a read behind the end. */
static void run(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size == 0 ? 1 : size);
    if (copy == NULL) perror("malloc"), exit(2);
    if (size > 0) memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    executions++;
}

static void replay_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) perror(path), exit(2);
    uint8_t *data = malloc(INPUT_MAX);
    if (data == NULL) perror("malloc"), exit(2);
    size_t size = fread(data, 1, INPUT_MAX, file);
    fclose(file);
    run(data, size);
    if (n_inputs < MAX_INPUTS) inputs[n_inputs].data = data, inputs[n_inputs++].size = size;
    else free(data);
}

static void replay(const char *path) {
    DIR *folder = opendir(path);
    if (folder == NULL) {
        replay_file(path);
        return;
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char name[4096];
        struct stat info;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (stat(name, &info) == 0 && S_ISREG(info.st_mode)) replay_file(name);
    }
    closedir(folder);
}

/* One random edit: flip a bit, set an interesting byte, cut, repeat, or splice a piece of another input in. */
static size_t mutate(uint8_t *data, size_t size) {
    static const uint8_t bytes[] = {0, 1, '"', '\\', '{', '}', '[', ']', ',', ':', '0', '9', '-', 'e', 'n', 0x7F, 0x80,
                                    0xC3, 0xFF};
    size_t at = size == 0 ? 0 : random_below(size), n = 1 + random_below(16), room = INPUT_MAX - size;
    switch (random_below(6)) {
    case 0:
        if (size > 0) data[at] ^= (uint8_t)(1u << random_below(8));
        return size;
    case 1:
        if (size > 0) data[at] = bytes[random_below(sizeof bytes)];
        return size;
    case 2:
        if (n > size - at) n = size - at;
        memmove(data + at, data + at + n, size - at - n);
        return size - n;
    case 3:
        if (n > size - at) n = size - at;
        if (n > room) n = room;
        memmove(data + at + n, data + at, size - at);
        return size + n;
    case 4: return size == 0 ? 0 : random_below(size + 1);
    default: {
        size_t other = random_below(n_inputs), from;
        if (inputs[other].size == 0) return size;
        from = random_below(inputs[other].size);
        n = 1 + random_below(inputs[other].size - from);
        if (n > INPUT_MAX - at) n = INPUT_MAX - at;
        memcpy(data + at, inputs[other].data + from, n);
        return at + n > size ? at + n : size;
    }
    }
}

/* The input being run, in a file that outlives a crash. */
static uint8_t *kept_input(void) {
    int fd = open("fuzz-input", O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)INPUT_MAX) != 0) perror("fuzz-input"), exit(2);
    uint8_t *data = mmap(NULL, INPUT_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) perror("fuzz-input"), exit(2);
    close(fd);
    return data;
}

static void fuzz(int seconds) {
    uint8_t *data = kept_input();
    time_t end = time(NULL) + seconds;
    while (time(NULL) < end) {
        for (int i = 0; i < 100; i++) {
            size_t pick = random_below(n_inputs), size = inputs[pick].size;
            memcpy(data, inputs[pick].data, size);
            for (uint64_t edits = 1 + random_below(8); edits > 0; edits--) size = mutate(data, size);
            memset(data + size, 0, INPUT_MAX - size < 64 ? INPUT_MAX - size : 64);
            run(data, size);
        }
    }
    munmap(data, INPUT_MAX);
    unlink("fuzz-input");
}

int main(int argc, char **argv) {
    int seconds = 0, i = 1;
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        if (strcmp(argv[i], "-seconds") == 0) seconds = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "-seed") == 0) random_state = strtoull(argv[i + 1], NULL, 10);
        else return fprintf(stderr, "unknown option %s; known: -seconds N, -seed N\n", argv[i]), 2;
    }
    for (; i < argc; i++) replay(argv[i]);
    if (n_inputs == 0) return fprintf(stderr, "usage: %s [-seconds N] [-seed N] FILE_OR_FOLDER...\n", argv[0]), 2;
    if (seconds > 0) fuzz(seconds);
    printf("%s: %llu executions\n", argv[0], executions);
    for (size_t n = 0; n < n_inputs; n++) free(inputs[n].data);
    return 0;
}
