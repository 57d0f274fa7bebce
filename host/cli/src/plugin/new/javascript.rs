//! A plugin in JavaScript: a package of npm's, with the SDK's source beside it and a lock of what builds it.

use std::path::PathBuf;

use super::{Filled, Kind, template, within};

macro_rules! sdk {
    ($($name:literal)*) => {
        /// Name and text of each file of the SDK.
        pub(super) const SDK: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../../../../guest-sdk/javascript/", $name))),)*
        ];
    };
}

sdk! {
    "export.js" "host.js" "index.d.ts" "index.js" "message.js" "package.json" "params.js" "refusal.js" "text.js"
}

impl Kind {
    /// As manifests name it.
    pub(super) fn code_name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::BodyFilter => "body-filter",
            Self::Selector => "selector",
            Self::Allocation => "allocation",
        }
    }

    fn javascript(self) -> (&'static str, &'static str) {
        match self {
            Self::Filter => (
                template!("filter/plugin.js"),
                template!("filter/plugin.test.js"),
            ),
            Self::BodyFilter => (
                template!("body-filter/plugin.js"),
                template!("body-filter/plugin.test.js"),
            ),
            Self::Selector => (
                template!("selector/plugin.js"),
                template!("selector/plugin.test.js"),
            ),
            Self::Allocation => (
                template!("allocation/plugin.js"),
                template!("allocation/plugin.test.js"),
            ),
        }
    }
}

/// Path and text of every file.
pub(super) fn files(name: &str, kind: Kind) -> Vec<(PathBuf, String)> {
    let filled = Filled::new(name, kind);
    let fill = |text: &str| filled.fill(&text.replace("{code}", kind.code_name()));
    let (code, test) = kind.javascript();
    let own = [
        ("package.json", fill(template!("package.json.in"))),
        ("package-lock.json", fill(template!("package-lock.json.in"))),
        ("README.md", fill(template!("README.js.md.in"))),
        (".gitignore", "/node_modules\n/build\n/*.wasm\n".to_owned()),
        ("cases.ndjson", kind.cases().to_owned()),
        ("src/plugin.js", code.to_owned()),
        ("src/plugin.test.js", test.to_owned()),
    ];
    let own = own.into_iter().map(|(path, text)| (path.into(), text));
    own.chain(within("vendor/quern-plugin", SDK)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_lock_is_that_of_the_package() {
        let files = files("eu-filter", Kind::Filter);
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
