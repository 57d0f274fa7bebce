//! A plugin in JavaScript: a package of npm's, with the SDK's source beside it and a lock of what builds it.

use super::{Filled, Folder, files, template};

files! {
    /// The SDK.
    SDK = "guest-sdk/javascript/", "",
    "export.js" "host.js" "index.d.ts" "index.js" "message.js" "package.json" "params.js" "refusal.js" "text.js"
}

pub(super) fn folder(filled: &Filled) -> Folder {
    let start = filled.kind.start();
    Folder::new([
        ("package.json", filled.fill(template!("package.json.in"))),
        (
            "package-lock.json",
            filled.fill(template!("package-lock.json.in")),
        ),
        ("README.md", filled.fill(template!("README.js.md.in"))),
        (".gitignore", "/node_modules\n/build\n/*.wasm\n".to_owned()),
        ("cases.ndjson", start.cases.to_owned()),
        ("src/plugin.js", start.javascript.to_owned()),
        ("src/plugin.test.js", start.javascript_test.to_owned()),
    ])
    .with("vendor/quern-plugin", SDK)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::plugin::kind::Kind;

    #[test]
    fn the_lock_is_that_of_the_package() {
        let files = folder(&Filled::new("eu-filter", Kind::Filter)).0;
        let text = |name: &str| {
            let found = files.iter().find(|(path, _)| path.ends_with(name));
            found.unwrap().1.as_str()
        };
        let json = |name: &str| serde_json::from_str::<Value>(text(name)).unwrap();
        let (package, lock) = (json("package.json"), json("package-lock.json"));
        assert_eq!(package["quern"]["kind"], "filter");
        let root = &lock["packages"][""];
        for key in ["name", "version", "dependencies", "devDependencies"] {
            assert_eq!(package[key], root[key], "{key}");
        }
        assert!(!text("README.md").contains('{'), "{}", text("README.md"));
    }
}
