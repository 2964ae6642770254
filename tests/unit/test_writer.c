/* Output files under adverse conditions: several writers of one name, and failures at the very end. */
#include "test.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/fileset.h"

static size_t count_files(const char *dir) {
    DIR *d = opendir(dir);
    size_t n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    }
    closedir(d);
    return n;
}

/* Writers of one name sweep each other's leftovers: never a file that has just been created. */
static void writers_do_not_sweep_each_other(void **state) {
    (void)state;
#if defined(__SANITIZE_THREAD__)
    skip(); /* its run time slows the race down beyond meeting it */
#endif
    enum { WRITERS = 4, ROUNDS = 400 };
    char dir[] = "/tmp/ht-race-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/out.bin", dir);
    pid_t pids[WRITERS];
    for (int i = 0; i < WRITERS; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            ht_status status = HT_OK;
            for (int k = 0; k < ROUNDS && status == HT_OK; k++) {
                struct ht_writer *w;
                status = ht_writer_open(path, &(struct ht_writer_options){.overwrite = true}, &w, NULL);
                if (status == HT_OK) {
                    status = ht_writer_write(w, "x", 1, NULL);
                    status = status == HT_OK ? ht_writer_commit(w, NULL) : status;
                }
            }
            _exit(-(int)status);
        }
    }
    int failed = 0, how;
    for (int i = 0; i < WRITERS; i++) {
        waitpid(pids[i], &how, 0);
        failed += !WIFEXITED(how) || WEXITSTATUS(how) != 0;
    }
    assert_int_equal(failed, 0);
    assert_int_equal(count_files(dir), 1);
    unlink(path);
    rmdir(dir);
}

/* No descriptor is left for the folder: its sync fails when the file has its name already. */
static struct rlimit forbid_descriptors(void) {
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){3, old.rlim_max}), 0);
    return old;
}

static void failure_behind_the_name(void **state) {
    (void)state;
    char dir[] = "/tmp/ht-name-XXXXXX", path[64];
    ht_err err = {0};
    struct ht_writer *w;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/out.bin", dir);
    for (int overwrite = 0; overwrite < 2; overwrite++) {
        ht_err_clear(&err);
        ASSERT_OK(ht_writer_open(path, &(struct ht_writer_options){.overwrite = overwrite}, &w, &err), &err);
        ASSERT_OK(ht_writer_write(w, "new", 3, &err), &err);
        struct rlimit old = forbid_descriptors();
        ht_status status = ht_writer_commit(w, &err);
        setrlimit(RLIMIT_NOFILE, &old);
        assert_int_equal(status, HT_IO);
        assert_int_equal(count_files(dir), (size_t)overwrite); /* replacing: the new one stays */
    }
    unlink(path);
    rmdir(dir);
}

static void open_set(struct ht_fileset *set, const char *dir, bool overwrite) {
    ht_err err = {0};
    ASSERT_OK(ht_fileset_init(set, 3, overwrite, &err), &err);
    for (size_t i = 0; i < 3; i++) {
        char path[80];
        snprintf(path, sizeof path, "%s/part-%zu", dir, i);
        ASSERT_OK(ht_fileset_open(set, i, path, 0, &err), &err);
        ASSERT_OK(ht_writer_write(set->writers[i], "new", 3, &err), &err);
    }
}

static void failed_set_leaves_nothing(void **state) {
    (void)state;
    char dir[] = "/tmp/ht-set-XXXXXX", path[80];
    ht_err err = {0};
    struct ht_fileset set;
    assert_non_null(mkdtemp(dir));
    open_set(&set, dir, false);
    struct rlimit old = forbid_descriptors();
    ht_status status = ht_fileset_commit(&set, &err);
    setrlimit(RLIMIT_NOFILE, &old);
    assert_int_equal(status, HT_IO);
    assert_int_equal(count_files(dir), 0);
    /* A file of another program that appeared meanwhile stays, those of the set go. */
    open_set(&set, dir, false);
    snprintf(path, sizeof path, "%s/part-1", dir);
    ASSERT_OK(ht_write_file(path, "theirs", 6, false, &err), &err);
    ht_err_clear(&err);
    assert_int_equal(ht_fileset_commit(&set, &err), HT_EXISTS);
    assert_int_equal(count_files(dir), 1);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 6);
    unlink(path);
    rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writers_do_not_sweep_each_other),
        cmocka_unit_test(failure_behind_the_name),
        cmocka_unit_test(failed_set_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
