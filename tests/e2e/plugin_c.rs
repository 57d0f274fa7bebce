//! An author's way in C, as in JavaScript. With a clang of this machine that knows WebAssembly it takes a second; pip's, of
//! 100 MB, is fetched when `QUERN_C_TESTS` is set, and the test says so when it is not. Where neither is, what a broker makes
//! of such a component is still tested, with those in `tests/golden/plugins/c`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use quern_harness::{World, said};

use crate::plugin_author::Author;
use crate::plugin_javascript::{runs, skip};
use crate::plugin_languages::{Misdeed, Orders, are_noticed, judges_as_all_do, rows};
use crate::{QUERN, world_with_node};

const KINDS: [&str; 4] = ["filter", "body-filter", "selector", "allocation"];

/// A clang that links WebAssembly, by the name it has here.
fn clang() -> Option<String> {
    let numbered = (14..40).rev().map(|it| format!("clang-{it}"));
    let mut named = std::iter::once("clang".to_owned()).chain(numbered);
    named.find(|it| {
        let mut command = Command::new(it);
        command.args(["--target=wasm32", "-nostdlib", "-Wl,--no-entry", "-xc"]);
        let out = command.args(["/dev/null", "-o", "/dev/null"]).output();
        out.is_ok_and(|it| it.status.success())
    })
}

/// A new plugin that the compiler of that name builds; `None` = by whatever is found.
fn begin(author: &Author<'_>, name: &str, kind: &str, compiler: Option<&str>) -> Result<()> {
    author.ok(
        "",
        &["plugin", "new", name, "--language", "c", "--kind", kind],
    )?;
    let Some(compiler) = compiler else {
        return Ok(());
    };
    let file = author.folder.join(name).join("plugin.toml");
    let manifest = std::fs::read_to_string(&file)?;
    let manifest = manifest.replace(
        "# compiler = \"clang-18\"",
        &format!("compiler = \"{compiler}\""),
    );
    ensure!(manifest.contains(compiler));
    std::fs::write(&file, manifest)?;
    Ok(())
}

/// A filter with a language of its own, whose memory would not last for two batches if it were kept.
const BY_PREFIX: &str = r#"
#include "quern.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void *compile(quern_text expression, const quern_params *p, quern_refusal *refusal) {
    (void)p;
    const char *blank = memchr(expression.at, ' ', expression.len);
    if (blank) {
        size_t at = (size_t)(blank - expression.at);
        *refusal = (quern_refusal){quern_format("a blank at byte %zu", at), .at = at, .len = 1, .help = "leave it out"};
        return NULL;
    }
    char *text = malloc(expression.len + 1);
    assert(text);
    memcpy(text, expression.at, expression.len);
    text[expression.len] = 0;
    return text;
}

static char *volatile seen;

static void judge(const quern_batch *batch, const quern_params *p, uint32_t *verdicts) {
    quern_text prefix = {p->compiled, strlen(p->compiled)};
    quern_texts regions = quern_column(batch, "region");
    quern_numbers amounts = quern_column_integer(batch, "amount");
    for (size_t n = 0; n < batch->len; n++) {
        char *waste = malloc(40000);
        assert(waste);
        memset(waste, 1, 40000);
        /* Nothing that nobody sees is ever allocated. */
        seen = waste;
        bool is_large = quern_column_integer_at(amounts, n) >= 100;
        if (is_large && quern_starts_with(quern_column_at(regions, n), prefix)) quern_deliver(verdicts, n);
    }
}

const struct quern_filter quern_filter = {
    .language = "PREFIX",
    .reads = {"region", "amount:int"},
    .compile = compile,
    .judge = judge,
};
"#;

#[test]
fn from_an_empty_directory_to_messages_that_are_let_through() -> Result<()> {
    let test = "from_an_empty_directory_to_messages_that_are_let_through";
    let Some(clang) = clang() else {
        skip(test, "there is no clang that knows WebAssembly");
        return Ok(());
    };
    let (world, node) = world_with_node(&[])?;
    let author = Author::new(&world)?;
    begin(&author, "eu-filter", "filter", Some(&clang))?;
    let built = said(&author.run("eu-filter", &["plugin", "build"])?);
    ensure!(
        built.contains(&format!("compiled by {clang}: ")) && built.contains("; clang "),
        "{built}"
    );
    judges_as_all_do(&author, "eu-filter", &[])?;

    let orders = Orders::send(&world, &node, 1_200)?;
    orders.upload(&author, "eu-filter", &[])?;
    orders.come_by_param("eu-filter")?;

    begin(&author, "by-prefix", "filter", Some(&clang))?;
    let folder = author.folder.join("by-prefix");
    std::fs::write(folder.join("src/plugin.c"), BY_PREFIX)?;
    std::fs::remove_file(folder.join("cases.ndjson"))?;
    orders.upload(&author, "by-prefix", &[])?;
    for expression in ["eu", "eu😀", ""] {
        let args = ["--plugin", "by-prefix", "--expression", expression];
        orders.come(&args, |it| it.starts_with(expression))?;
    }
    let told = orders.refusal("by-prefix", "eu west")?;
    for text in ["a blank at byte 2", "\n  eu west\n    ^\n", "leave it out"] {
        ensure!(told.contains(text), "{text}: {told}");
    }
    Ok(())
}

const MISDEEDS: [Misdeed; 8] = [
    (
        "loop",
        "for (volatile int n = 0;; n++);",
        "more computing than it is allowed",
    ),
    ("deep", "return deep(&m) > 0;", "failed"),
    (
        "hoard",
        "for (;;) { char *it = malloc(100000); assert(it); *(volatile char *)it = 1; }",
        "asked for more than its",
    ),
    (
        "beyond",
        "return *(volatile char *)0x40000000;",
        "out of bounds memory access",
    ),
    (
        "zero",
        "volatile int none = 0, it = 7 / none; return it > 0;",
        "divide by zero",
    ),
    (
        "assert",
        "assert(region.len == 5);",
        "src/plugin.c:12: assertion failed: region.len == 5",
    ),
    (
        "fail",
        "return quern_fail(\"no idea of %.*s\", (int)region.len, region.at);",
        "no idea of fail",
    ),
    ("abort", "abort();", "abort was called"),
];

#[test]
fn what_it_does_is_noticed() -> Result<()> {
    let Some(clang) = clang() else {
        skip(
            "what_it_does_is_noticed",
            "there is no clang that knows WebAssembly",
        );
        return Ok(());
    };
    let world = World::new(QUERN)?;
    let author = Author::new(&world)?;
    begin(&author, "my-filter", "filter", Some(&clang))?;
    let does = |(region, code, _): Misdeed| {
        format!("    if (quern_is(region, \"{region}\")) {{ {code} }}\n")
    };
    let code = format!(
        "#include \"quern.h\"\n#include <assert.h>\n#include <stdlib.h>\n\
         static int deep(void *at) {{ volatile int more = 1; return deep((void *)&more) + more + (at != NULL); }}\n\
         static bool matches(const quern_message *m, const quern_params *p) {{ (void)p;\n\
         quern_text region = quern_read(m, \"region\");\n{}return true; }}\n\
         const struct quern_filter quern_filter = {{.reads = {{\"region\"}}, .matches = matches}};\n",
        MISDEEDS.map(does).concat()
    );
    std::fs::write(author.folder.join("my-filter/src/plugin.c"), &code)?;
    are_noticed(&author, "my-filter", &MISDEEDS)?;
    what_is_none_is_noticed(&author, &code)
}

/// What is no plugin is told when it is built, or asked what it is.
fn what_is_none_is_noticed(author: &Author<'_>, code: &str) -> Result<()> {
    let file = author.folder.join("my-filter/src/plugin.c");
    let edit = |from: &str, to: &str| std::fs::write(&file, code.replace(from, to));
    let build = ["plugin", "build"];
    edit("return true;", "return tru;")?;
    author.fails("my-filter", &build, 1, "undeclared identifier 'tru'")?;
    author.fails(
        "my-filter",
        &build,
        1,
        "src/plugin.c does not compile, see above",
    )?;
    edit("const struct quern_filter", "const struct quern_selector")?;
    author.fails(
        "my-filter",
        &build,
        1,
        "quern_filter' with a different type",
    )?;
    edit("quern_filter quern_filter", "quern_filter my_filter")?;
    author.fails("my-filter", &build, 1, "undefined symbol: quern_filter")?;
    author.fails(
        "my-filter",
        &build,
        1,
        "so it has a const struct quern_filter quern_filter",
    )?;
    for (from, to, text) in [
        (
            ", .matches = matches",
            "",
            "quern_filter has no .matches and no .judge",
        ),
        (
            ".reads = {\"region\"}",
            ".reads = {\"@regoin\"}",
            "a message has no @regoin; there are @tag",
        ),
        (
            ".reads",
            ".params = {{\"n\", QUERN_INTEGER, .by_default = \"x\"}}, .reads",
            "the default of parameter n is not",
        ),
        (
            ".reads = {\"region\"}",
            &format!(".reads = {{\"region\"{}}}", ", \"@tag\"".repeat(16)),
            ".reads names at most 16, and @tag is one more",
        ),
    ] {
        edit(from, to)?;
        author.fails("my-filter", &["plugin", "test"], 2, text)?;
    }
    Ok(())
}

/// Takes, moves and gives back memory, both that of a call and that which is kept, and looks whether all is as it was.
const MEMORY: &str = r#"
#include "quern.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

static char *pieces[64];
static size_t sizes[64];

static void check(size_t at) {
    for (size_t n = 0; n < sizes[at]; n++) assert(pieces[at][n] == (char)(at + 1));
}

static void churn(uint32_t rounds, uint32_t large) {
    uint32_t seed = 1;
    memset(pieces, 0, sizeof pieces);
    memset(sizes, 0, sizeof sizes);
    for (uint32_t round = 0; round < rounds; round++) {
        seed = seed * 1664525 + 1013904223;
        size_t at = (seed >> 8) % 64, size = (seed >> 14) % ((seed >> 28) ? 300 : large);
        check(at);
        if (seed >> 31) {
            free(pieces[at]);
            pieces[at] = NULL;
            sizes[at] = 0;
            continue;
        }
        char *piece = realloc(pieces[at], size);
        assert(piece && (uintptr_t)piece % 16 == 0);
        pieces[at] = piece;
        if (size < sizes[at]) sizes[at] = size;
        check(at);
        memset(piece, (int)at + 1, size);
        sizes[at] = size;
    }
    for (size_t at = 0; at < 64; at++) {
        check(at);
        free(pieces[at]);
    }
}

static int by_value(const void *left, const void *right) {
    int one = *(const int *)left, other = *(const int *)right;
    return (one > other) - (one < other);
}

static void strings(void) {
    int sorted[100];
    for (int n = 0; n < 100; n++) sorted[n] = n * 37 % 100 / 2;
    qsort(sorted, 100, sizeof *sorted, by_value);
    for (int n = 0; n < 100; n++) assert(sorted[n] == n / 2);
    char text[] = "abcdefghijkabc";
    assert(strstr(text, "ijk") == text + 8 && !strstr(text, "x") && strstr(text, "") == text);
    assert(strchr(text, 'b') == text + 1 && strrchr(text, 'b') == text + 12 && strchr(text, 0) == text + 14);
    assert(strcmp("a", "b") < 0 && strncmp("ab", "ac", 1) == 0 && strlen(text) == 14 && strnlen(text, 3) == 3);
    assert(memcmp(text, "abcdefghijkabd", 14) < 0 && memcmp(text, "abcdefghX", 8) == 0);
    memmove(text + 1, text, 13);
    assert(strcmp(text, "aabcdefghijkab") == 0 && strcmp(strdup(text), text) == 0);
    int64_t product;
    volatile int64_t large = INT64_MAX / 3, three = 3, four = 4;
    assert(!__builtin_mul_overflow(large, three, &product) && product == INT64_MAX / 3 * 3);
    assert(__builtin_mul_overflow(large, four, &product) && __builtin_mul_overflow(-large, four, &product));
    assert(!__builtin_mul_overflow(-large, three, &product) && product == -(INT64_MAX / 3 * 3));
}

static void *compile(quern_text expression, const quern_params *p, quern_refusal *refusal) {
    (void)expression, (void)p, (void)refusal;
    churn(1500, 40000);
    strings();
    return NULL;
}

static bool matches(const quern_message *m, const quern_params *p) {
    (void)m, (void)p;
    churn(150, 3000);
    return true;
}

const struct quern_filter quern_filter = {.compile = compile, .matches = matches};
"#;

#[test]
fn memory_is_given_once_and_taken_back() -> Result<()> {
    let Some(clang) = clang() else {
        skip(
            "memory_is_given_once_and_taken_back",
            "there is no clang that knows WebAssembly",
        );
        return Ok(());
    };
    let world = World::new(QUERN)?;
    let author = Author::new(&world)?;
    begin(&author, "my-filter", "filter", Some(&clang))?;
    let folder = author.folder.join("my-filter");
    std::fs::write(folder.join("src/plugin.c"), MEMORY)?;
    // Each is compiled and asked in the same instance, so what is kept wrongly adds up.
    std::fs::write(
        folder.join("cases.ndjson"),
        "{\"message\":{},\"expect\":true}\n".repeat(200),
    )?;
    let rows = rows(&author, "my-filter", &[])?;
    let failed = rows.iter().find(|row| row["passed"] != true);
    ensure!(rows.len() == 200 && failed.is_none(), "{failed:?}");
    Ok(())
}

/// What it returns beside a refusal is 500 kB, and what that says lies in there.
const REFUSING: &str = r#"
#include "quern.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct piece { char why[500000]; };
static struct piece *given;

static void *compile(quern_text expression, const quern_params *p, quern_refusal *refusal) {
    (void)p;
    struct piece *it = malloc(sizeof *it);
    assert(it && !given);
    memset(it, 0, sizeof *it);
    given = it;
    memcpy(it->why, "it says ", 8);
    memcpy(it->why + 8, expression.at, expression.len);
    *refusal = (quern_refusal){it->why, .help = it->why};
    return it;
}

static void release(void *compiled) {
    struct piece *it = compiled;
    assert(it == given);
    given = NULL;
    memset(it, 'x', sizeof *it);
    free(it);
}

static bool matches(const quern_message *m, const quern_params *p) {
    (void)m, (void)p;
    return true;
}

const struct quern_filter quern_filter = {
    .language = "NONE", .compile = compile, .release = release, .matches = matches};
"#;

#[test]
fn what_is_returned_beside_a_refusal_is_given_back() -> Result<()> {
    let Some(clang) = clang() else {
        skip(
            "what_is_returned_beside_a_refusal_is_given_back",
            "there is no clang that knows WebAssembly",
        );
        return Ok(());
    };
    let world = World::new(QUERN)?;
    let author = Author::new(&world)?;
    begin(&author, "my-filter", "filter", Some(&clang))?;
    let folder = author.folder.join("my-filter");
    let case = "{\"message\":{},\"expression\":\"no\",\"refused\":\"it says no\"}\n";
    std::fs::write(folder.join("cases.ndjson"), case.repeat(200))?;
    let by_free = REFUSING
        .replace(".release = release, ", "")
        .replace("it && !given", "it");
    for code in [REFUSING, &by_free] {
        std::fs::write(folder.join("src/plugin.c"), code)?;
        let rows = rows(&author, "my-filter", &[])?;
        let failed = rows.iter().find(|row| row["passed"] != true);
        ensure!(rows.len() == 200 && failed.is_none(), "{failed:?}");
    }
    Ok(())
}

/// On this machine's own compiler, as the README of each plugin says, and if it has one for WebAssembly, with that.
#[test]
fn every_kind_of_plugin_begins_with_cases_and_tests_it_passes() -> Result<()> {
    let test = "every_kind_of_plugin_begins_with_cases_and_tests_it_passes";
    let world = World::new(QUERN)?;
    let author = Author::new(&world)?;
    let clang = clang();
    for kind in KINDS {
        let name = format!("my-{kind}");
        begin(&author, &name, kind, clang.as_deref())?;
        let folder = author.folder.join(&name);
        let readme = std::fs::read_to_string(folder.join("README.md"))?;
        let told = readme.lines().find(|it| it.contains("cc -std="));
        let told = told.context("how its tests are run")?;
        let strictly = told.replace("cc ", "cc -Wall -Wextra -Werror ");
        let mut shell = Command::new("sh");
        let ran = shell
            .args(["-c", &strictly])
            .current_dir(&folder)
            .output()?;
        ensure!(ran.status.success(), "{kind}: {told}: {}", said(&ran));
        if clang.is_none() {
            skip(test, "there is no clang that knows WebAssembly");
            continue;
        }
        let tested = author.ok(&name, &["plugin", "test"])?;
        let passed = tested.lines().filter(|line| line.starts_with("ok "));
        ensure!(passed.count() >= 5, "{kind}: {tested}");
    }
    Ok(())
}

/// What is the same on every machine is tried on this one.
#[test]
fn the_sdk_reads_and_writes_texts() -> Result<()> {
    let world = World::new(QUERN)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut compiler = Command::new("cc");
    compiler.args([
        "-std=gnu17",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-missing-field-initializers",
        "-Iguest-sdk/c",
        "-o",
    ]);
    compiler
        .arg(world.path("tests"))
        .args(["tests/e2e/cases/sdk.c", "guest-sdk/c/testing.c"]);
    let compiled = compiler.current_dir(&root).output()?;
    ensure!(compiled.status.success(), "{}", said(&compiled));
    let ran = Command::new(world.path("tests")).output()?;
    ensure!(ran.status.success(), "{}", said(&ran));
    Ok(())
}

/// Where this machine has no clang that can do it, pip's does.
#[test]
fn pip_fetches_what_builds_it() -> Result<()> {
    let test = "pip_fetches_what_builds_it";
    if std::env::var_os("QUERN_C_TESTS").is_none() {
        skip(
            test,
            "fetches 100 MB; QUERN_C_TESTS=1 runs it, with Python 3, venv and pip",
        );
        return Ok(());
    }
    if !runs("python3") {
        skip(test, "Python 3 is not installed");
        return Ok(());
    }
    let world = World::new(QUERN)?;
    let author = Author::new(&world)?;
    begin(&author, "eu-filter", "filter", None)?;
    let built = author.run("eu-filter", &["plugin", "build"])?;
    let told = said(&built);
    if !built.status.success() && told.contains("No matching distribution found") {
        skip(test, "pip does not reach an index that has ziglang");
        return Ok(());
    }
    ensure!(built.status.success(), "{told}");
    ensure!(
        told.contains("compiled by the clang in ziglang") && told.contains("pip install "),
        "{told}"
    );
    judges_as_all_do(&author, "eu-filter", &[])
}

/// Where neither clang nor Python is, the error says what is missing and where it comes from.
#[test]
fn what_is_missing_is_said() -> Result<()> {
    let world = World::new(QUERN)?;
    world.ok(&["plugin", "new", "eu-filter", "--language", "c"])?;
    let build = |path: &str| {
        let mut command = world.command(&["plugin", "build"]);
        command
            .current_dir(world.path("eu-filter"))
            .env("PATH", path);
        Ok::<_, anyhow::Error>(said(&world.finish(command)?))
    };
    let told = build("/nonexistent")?;
    for text in [
        "python3 is not installed",
        "a clang that knows wasm32",
        "https://python.org",
    ] {
        ensure!(told.contains(text), "{told}");
    }
    let file = world.path("eu-filter/plugin.toml");
    let manifest = std::fs::read_to_string(&file)?;
    std::fs::write(
        &file,
        manifest.replace("# compiler = \"clang-18\"", "compiler = \"cc-for-wasm\""),
    )?;
    let told = build("/nonexistent")?;
    ensure!(
        told.contains("cc-for-wasm, which plugin.toml names, makes no WebAssembly"),
        "{told}"
    );
    std::fs::remove_file(world.path("eu-filter/src/plugin.c"))?;
    let told = build("/nonexistent")?;
    ensure!(told.contains("there is no .c file in src/"), "{told}");
    std::fs::write(&file, "[plugin]\nname = \"eu-filter\"\n")?;
    let told = build("/nonexistent")?;
    ensure!(
        told.contains("plugin.toml has no version under [plugin]"),
        "{told}"
    );
    Ok(())
}
