//! A plugin in Python: a project with the SDK's source beside it, and what builds it pinned in `requirements.txt`.

use std::path::PathBuf;

use super::{Filled, Kind, template, within};

macro_rules! sdk {
    ($($name:literal)*) => {
        /// Name and text of each file of the SDK.
        pub(super) const SDK: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../../../../guest-sdk/python/quern_plugin/", $name))),)*
        ];
    };
}

sdk! { "__init__.py" "export.py" "host.py" "message.py" "params.py" "plugin.py" "refusal.py" }

impl Kind {
    fn python(self) -> (&'static str, &'static str) {
        match self {
            Self::Filter => (
                template!("filter/plugin.py"),
                template!("filter/test_plugin.py"),
            ),
            Self::BodyFilter => (
                template!("body-filter/plugin.py"),
                template!("body-filter/test_plugin.py"),
            ),
            Self::Selector => (
                template!("selector/plugin.py"),
                template!("selector/test_plugin.py"),
            ),
            Self::Allocation => (
                template!("allocation/plugin.py"),
                template!("allocation/test_plugin.py"),
            ),
        }
    }
}

/// Path and text of every file.
pub(super) fn files(name: &str, kind: Kind) -> Vec<(PathBuf, String)> {
    let filled = Filled::new(name, kind);
    let fill = |text: &str| filled.fill(&text.replace("{code}", kind.code_name()));
    let (code, test) = kind.python();
    let own = [
        ("pyproject.toml", fill(template!("pyproject.toml.in"))),
        ("requirements.txt", "componentize-py==0.25.1\n".to_owned()),
        ("README.md", fill(template!("README.py.md.in"))),
        (
            ".gitignore",
            "/.venv\n/build\n/*.wasm\n__pycache__\n".to_owned(),
        ),
        ("cases.ndjson", kind.cases().to_owned()),
        ("src/plugin.py", code.to_owned()),
        ("tests/test_plugin.py", test.to_owned()),
    ];
    let own = own.into_iter().map(|(path, text)| (path.into(), text));
    own.chain(within("vendor/quern_plugin", SDK)).collect()
}
