//! A plugin in Go: a module with the SDK as a package of its own, so that nothing is fetched.

use super::{Filled, Folder, files, template};

files! {
    /// The SDK.
    SDK = "guest-sdk/go/", ".go",
    "export" "export_allocation" "export_body_filter" "export_filter" "export_selector" "host" "host_other" "log"
    "message" "params" "plugin" "refusal" "testing"
}

pub(super) fn folder(filled: &Filled) -> Folder {
    let start = filled.kind.start();
    Folder::new([
        ("plugin.toml", filled.fill(template!("plugin.go.toml.in"))),
        ("go.mod", "module quernplugin\n\ngo 1.24\n".to_owned()),
        ("README.md", filled.fill(template!("README.go.md.in"))),
        (".gitignore", "/build\n/*.wasm\n".to_owned()),
        ("cases.ndjson", start.cases.to_owned()),
        ("plugin.go", start.go.to_owned()),
        ("plugin_test.go", start.go_test.to_owned()),
    ])
    .with("quern", SDK)
}
