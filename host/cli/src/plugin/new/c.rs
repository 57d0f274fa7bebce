//! A plugin in C: a few sources, the SDK's beside them, and the compiler that pip has pinned in `requirements.txt`.

use super::{Filled, Folder, files, template};

files! {
    /// The SDK …
    SDK = "guest-sdk/c/", "",
    "contract.h" "exports.h" "glue.c" "glue.h" "params.c" "quern.h" "reads.c" "testing.c" "testing.h" "text.c"
}

files! {
    /// … and what it has in the place of a C library.
    FREESTANDING = "guest-sdk/c/freestanding/", "",
    "assert.h" "freestanding.h" "host.c" "memory.c" "stdlib.h" "string.c" "string.h" "wide.c"
}

pub(super) fn folder(filled: &Filled) -> Folder {
    let start = filled.kind.start();
    let flags = template!("compile_flags.txt");
    Folder::new([
        ("plugin.toml", filled.fill(template!("plugin.toml.in"))),
        ("compile_flags.txt", flags.to_owned()),
        ("requirements.txt", "ziglang==0.17.1\n".to_owned()),
        ("README.md", filled.fill(template!("README.c.md.in"))),
        (".gitignore", "/.venv\n/build\n/*.wasm\n".to_owned()),
        ("cases.ndjson", start.cases.to_owned()),
        ("src/plugin.c", start.c.to_owned()),
        ("tests/test_plugin.c", start.c_test.to_owned()),
    ])
    .with("vendor/quern-plugin", SDK)
    .with("vendor/quern-plugin/freestanding", FREESTANDING)
}
