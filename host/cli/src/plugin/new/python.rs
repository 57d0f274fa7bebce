//! A plugin in Python: a project with the SDK's source beside it, and what builds it pinned in `requirements.txt`.

use super::{Filled, Folder, files, template};

files! {
    /// The SDK.
    SDK = "guest-sdk/python/quern_plugin/", ".py",
    "__init__" "export" "host" "message" "params" "plugin" "refusal"
}

pub(super) fn folder(filled: &Filled) -> Folder {
    let start = filled.kind.start();
    let ignored = "/.venv\n/build\n/*.wasm\n__pycache__\n";
    Folder::new([
        (
            "pyproject.toml",
            filled.fill(template!("pyproject.toml.in")),
        ),
        ("requirements.txt", "componentize-py==0.25.1\n".to_owned()),
        ("README.md", filled.fill(template!("README.py.md.in"))),
        (".gitignore", ignored.to_owned()),
        ("cases.ndjson", start.cases.to_owned()),
        ("src/plugin.py", start.python.to_owned()),
        ("tests/test_plugin.py", start.python_test.to_owned()),
    ])
    .with("vendor/quern_plugin", SDK)
}
