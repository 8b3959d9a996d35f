/* ptfile - builds a checkpoint as torch.save writes it, in memory: a pickle, storages, and the archive around them. */
#ifndef CCH_TESTS_PTFILE_H
#define CCH_TESTS_PTFILE_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef struct ptfile {
    unsigned char pickle[1 << 15], data[1 << 16]; /* the pickle so far; the numbers of all storages */
    size_t n_pickle, n_data, first[64], size[64]; /* of each storage in data, bytes */
    int n_storages;
    unsigned char file[1 << 17], directory[1 << 14]; /* the archive so far, its directory so far */
    size_t n_file, n_directory;
    int n_entries;
} ptfile;

static inline void pt_bytes(ptfile *f, const void *bytes, size_t n) {
    memcpy(f->pickle + f->n_pickle, bytes, n);
    f->n_pickle += n;
}
static inline void pt_op(ptfile *f, const char *ops) { pt_bytes(f, ops, strlen(ops)); }

static inline void pt_little(unsigned char *to, uint64_t value, int n) {
    for (int i = 0; i < n; i++) to[i] = (unsigned char)(value >> 8 * i);
}

static inline void pt_text(ptfile *f, const char *text) {
    unsigned char head[5] = {'X'};
    pt_little(head + 1, strlen(text), 4);
    pt_bytes(f, head, 5);
    pt_op(f, text);
}

static inline void pt_int(ptfile *f, int32_t value) {
    unsigned char op[5] = {'J'};
    pt_little(op + 1, (uint32_t)value, 4);
    pt_bytes(f, op, 5);
}

static inline void pt_field(ptfile *f, const char *key, int32_t value) {
    pt_text(f, key);
    pt_int(f, value);
}

/* key: a tensor of n_dims sizes over a storage of its own, filled with small numbers that differ. */
static inline void pt_tensor(ptfile *f, const char *key, int n_dims, int32_t rows, int32_t cols) {
    int32_t n = n_dims == 2 ? rows * cols : rows, s = f->n_storages++;
    char number[16];
    f->first[s] = f->n_data;
    f->size[s] = (size_t)n * 4;
    for (int32_t i = 0; i < n; i++) {
        float value = 1.0f / (float)(1 + (s * 31 + i * 7) % 53);
        memcpy(f->data + f->n_data, &value, 4);
        f->n_data += 4;
    }
    pt_text(f, key);
    pt_op(f, "ctorch._utils\n_rebuild_tensor_v2\n((");
    pt_text(f, "storage");
    pt_op(f, "ctorch\nFloatStorage\n");
    snprintf(number, sizeof number, "%d", s);
    pt_text(f, number);
    pt_text(f, "cpu");
    pt_int(f, n);
    pt_op(f, "tQ");
    pt_int(f, 0);
    pt_int(f, rows);
    if (n_dims == 2) pt_int(f, cols);
    pt_op(f, n_dims == 2 ? "\x86" : "\x85");
    if (n_dims == 2) pt_int(f, cols);
    pt_int(f, 1);
    pt_op(f, n_dims == 2 ? "\x86" : "\x85");
    pt_op(f, "\x89" "ccollections\nOrderedDict\n)RtR");
}

static inline void pt_entry(ptfile *f, const char *name, const void *data, size_t n) {
    unsigned char local[30] = {'P', 'K', 3, 4}, *entry = f->directory + f->n_directory;
    pt_little(local + 26, strlen(name), 2);
    memset(entry, 0, 46);
    memcpy(entry, "PK\1\2", 4);
    pt_little(entry + 20, n, 4);
    pt_little(entry + 24, n, 4);
    pt_little(entry + 28, strlen(name), 2);
    pt_little(entry + 42, f->n_file, 4);
    memcpy(entry + 46, name, strlen(name));
    f->n_directory += 46 + strlen(name);
    memcpy(f->file + f->n_file, local, 30);
    memcpy(f->file + f->n_file + 30, name, strlen(name));
    memcpy(f->file + f->n_file + 30 + strlen(name), data, n);
    f->n_file += 30 + strlen(name) + n;
    f->n_entries++;
}

static inline void pt_end(ptfile *f) {
    unsigned char end[22] = {'P', 'K', 5, 6};
    pt_little(end + 10, (uint64_t)f->n_entries, 2);
    pt_little(end + 12, f->n_directory, 4);
    pt_little(end + 16, f->n_file, 4);
    memcpy(f->file + f->n_file, f->directory, f->n_directory);
    memcpy(f->file + f->n_file + f->n_directory, end, 22);
    f->n_file += f->n_directory + 22;
}

/* The archive of the pickle and the storages. */
static inline void pt_archive(ptfile *f) {
    char name[32];
    pt_entry(f, "t/data.pkl", f->pickle, f->n_pickle);
    pt_entry(f, "t/byteorder", "little", 6);
    for (int s = 0; s < f->n_storages; s++) {
        snprintf(name, sizeof name, "t/data/%d", s);
        pt_entry(f, name, f->data + f->first[s], f->size[s]);
    }
    pt_end(f);
}

/* A model of a generation, of bytes: V 256, T 12, C 8, L 1, H 2, d_ff 6. */
static inline void pt_model(ptfile *f, int generation) {
    memset(f, 0, sizeof *f);
    pt_op(f, "\x80\x02}(");
    pt_text(f, "model_cfg");
    pt_op(f, "}(");
    pt_field(f, "V", 256), pt_field(f, "T", 12), pt_field(f, "C", 8), pt_field(f, "L", 1);
    pt_field(f, "H", 2), pt_field(f, "d_ff", 6);
    pt_op(f, "u");
    pt_field(f, "step", -3);
    pt_text(f, "model_state");
    pt_op(f, "}(");
    pt_tensor(f, "tok_emb.weight", 2, 256, 8);
    pt_tensor(f, "blocks.0.ln1.weight", 1, 8, 0);
    pt_tensor(f, "blocks.0.attn.qkv.weight", 2, 24, 8);
    pt_tensor(f, "blocks.0.attn.proj.weight", 2, 8, 8);
    pt_tensor(f, "blocks.0.ln2.weight", 1, 8, 0);
    pt_tensor(f, "ln_f.weight", 1, 8, 0);
    if (generation == 1) {
        pt_tensor(f, "blocks.0.ln1.bias", 1, 8, 0), pt_tensor(f, "blocks.0.ln2.bias", 1, 8, 0);
        pt_tensor(f, "ln_f.bias", 1, 8, 0);
        pt_tensor(f, "blocks.0.mlp.fc1.weight", 2, 6, 8), pt_tensor(f, "blocks.0.mlp.fc1.bias", 1, 6, 0);
        pt_tensor(f, "blocks.0.mlp.fc2.weight", 2, 8, 6), pt_tensor(f, "blocks.0.mlp.fc2.bias", 1, 8, 0);
    } else {
        pt_tensor(f, "blocks.0.mlp.fc_a.weight", 2, 6, 8), pt_tensor(f, "blocks.0.mlp.fc_a.bias", 1, 6, 0);
        pt_tensor(f, "blocks.0.mlp.fc_g.weight", 2, 6, 8), pt_tensor(f, "blocks.0.mlp.fc_g.bias", 1, 6, 0);
        pt_tensor(f, "blocks.0.mlp.fc_out.weight", 2, 8, 6), pt_tensor(f, "blocks.0.mlp.fc_out.bias", 1, 8, 0);
    }
    pt_op(f, "uu.");
    pt_archive(f);
}

#endif
