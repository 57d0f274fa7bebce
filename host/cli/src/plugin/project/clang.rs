//! A plugin in C: clang makes objects of its sources and of the SDK's, wasm-ld a module of them. Either is the author's own
//! clang, if it knows WebAssembly, or the one in `ziglang`, which pip fetches into an environment of the folder's own, once.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;

use super::{Built, PLUGIN_TOML as MANIFEST, Package, Spent, Tool, key, pip, plugin_toml};
use crate::failure::Failure;
use crate::plugin::kind::Kind;

/// What an author, and an author's editor, compiles with.
const FLAGS: &str = "compile_flags.txt";
/// A program of the package, which pip makes last.
const ZIG: &str = ".venv/bin/python-zig";
/// Written anew by each build.
const ENTRY: &str = "build/entry.c";
const MODULE: &str = "build/module.wasm";
const NEEDED: &str = "plugins in C are built by a clang that knows wasm32, with its wasm-ld, or by the one that pip fetches with \
     Python 3.9 or newer: https://python.org";

/// What every object is compiled with: no function is called that is not there, and none with other types.
const COMPILE: [&str; 11] = [
    "-c",
    "-O2",
    "-g0",
    "-mbulk-memory",
    "-fno-strict-aliasing",
    "-Werror=implicit-function-declaration",
    "-Werror=incompatible-pointer-types",
    "-Werror=int-conversion",
    "-Werror=return-type",
    "-isystem",
    "vendor/quern-plugin/freestanding",
];
/// The SDK itself has what the compiler would call.
const COMPILE_SDK: [&str; 2] = ["-fno-builtin", "-std=gnu17"];
/// A stack that grows over its end meets the end of memory, not the plugin's data.
const LINK: [&str; 4] = ["--no-entry", "--stack-first", "-z", "stack-size=262144"];

/// Which clang, and how it is called.
enum Compiler {
    Own(String),
    Zig,
}

impl Compiler {
    /// The one the manifest names, a clang that can do it, or what pip has fetched.
    fn found(named: Option<String>, spent: &mut Spent) -> Result<Self, Failure> {
        if let Some(program) = named {
            return match is_able(&program) {
                true => Ok(Self::Own(program)),
                false => Err(Failure::usage(format!(
                    "{program}, which {MANIFEST} names, makes no WebAssembly: it has to know the target wasm32, and its \
                     wasm-ld has to be installed (Debian: apt install clang lld)"
                ))),
            };
        }
        if is_able("clang") {
            return Ok(Self::Own("clang".to_owned()));
        }
        pip::fetch(ZIG, NEEDED, spent)?;
        Ok(Self::Zig)
    }

    /// The program and what comes before all else.
    fn tool(&self) -> (&str, &'static [&'static str]) {
        match self {
            Self::Own(program) => (program, &["--target=wasm32-unknown-unknown"]),
            Self::Zig => (
                pip::OWN_PYTHON,
                &[
                    "-m",
                    "ziglang",
                    "cc",
                    "-target",
                    "wasm32-freestanding",
                    "-fno-sanitize=all",
                ],
            ),
        }
    }

    fn run(&self, args: &[&str], failed: &str) -> Result<(), Failure> {
        let (program, first) = self.tool();
        let tool = Tool {
            program,
            missing: NEEDED,
        };
        tool.run(&[first, args].concat(), failed).map(|_| ())
    }

    fn link(&self, objects: &[&str], failed: &str) -> Result<(), Failure> {
        match self {
            Self::Own(_) => {
                let passed = LINK.map(|it| ["-Xlinker", it]);
                let args = [&["-nostdlib", "-o", MODULE], passed.as_flattened(), objects].concat();
                self.run(&args, failed)
            }
            Self::Zig => {
                let tool = Tool {
                    program: pip::OWN_PYTHON,
                    missing: NEEDED,
                };
                let linker = ["-m", "ziglang", "wasm-ld", "-o", MODULE];
                let args = [&linker[..], &LINK, objects].concat();
                tool.run(&args, failed).map(|_| ())
            }
        }
    }

    fn told(&self) -> String {
        match self {
            Self::Own(program) => {
                let version = Command::new(program).arg("--version").output();
                let version = version.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
                let version = version.unwrap_or_default();
                format!(
                    "compiled by {program}: {}",
                    version.lines().next().unwrap_or_default()
                )
            }
            Self::Zig => "compiled by the clang in ziglang, in .venv".to_owned(),
        }
    }
}

/// Whether this clang makes a module, however small.
fn is_able(program: &str) -> bool {
    let mut command = Command::new(program);
    command.args([
        "--target=wasm32-unknown-unknown",
        "-nostdlib",
        "-Xlinker",
        "--no-entry",
    ]);
    command.args(["-x", "c", "/dev/null", "-o", "build/nothing.wasm"]);
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|it| it.success())
}

pub(super) fn build() -> Result<Built, Failure> {
    let package = plugin_toml()?;
    let text = fs::read_to_string(MANIFEST)?;
    let flags = fs::read_to_string(FLAGS)
        .map_err(|error| Failure::usage(format!("{FLAGS}, one flag a line: {error}")))?;
    let flags: Vec<&str> = flags
        .lines()
        .map(str::trim)
        .filter(|it| !it.is_empty())
        .collect();
    let sources = sources()?;
    fs::create_dir_all("build")?;
    fs::write(ENTRY, entry(&package))?;
    let mut spent = Spent::default();
    let compiler = Compiler::found(key(&text, "[build]", "compiler"), &mut spent)?;
    eprintln!("{}", compiler.told());
    spent.on("clang", || made(&compiler, &package, &flags, &sources))?;
    Ok(Built {
        name: package.name,
        module: MODULE.into(),
        spent,
    })
}

fn made(
    compiler: &Compiler,
    package: &Package,
    flags: &[&str],
    sources: &[PathBuf],
) -> Result<(), Failure> {
    let sdk = ["-Ivendor/quern-plugin", ENTRY, "-o", "build/entry.o"];
    let failed = "vendor/quern-plugin is not as it was when quern plugin new made it, see above";
    compiler.run(&[&COMPILE[..], &COMPILE_SDK, &sdk].concat(), failed)?;
    let mut objects = vec!["build/entry.o".to_owned()];
    for source in sources {
        let stem = source.file_stem().unwrap_or_default().to_string_lossy();
        let (source, object) = (source.to_string_lossy(), format!("build/{stem}.src.o"));
        let args = [&COMPILE[..], flags, &[&*source, "-o", &object]].concat();
        compiler.run(&args, &format!("{source} does not compile, see above"))?;
        objects.push(object);
    }
    let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
    let name = constant(package.kind);
    let failed = format!(
        "src/ makes no plugin, see above; {MANIFEST} says that it is a {kind}, so it has a const struct {name} {name}, and \
         there is no C library but vendor/quern-plugin/freestanding",
        kind = package.kind.name()
    );
    compiler.link(&objects, &failed)
}

/// The author's, in the order of their names.
fn sources() -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir("src").into_iter().flatten();
    let paths = entries.filter_map(|it| it.ok().map(|it| it.path()));
    let mut sources: Vec<_> = paths
        .filter(|it| it.extension().is_some_and(|it| it == "c"))
        .collect();
    sources.sort();
    match sources.is_empty() {
        true => Err(Failure::usage("there is no .c file in src/")),
        false => Ok(sources),
    }
}

/// What an author's plugin is called in C.
fn constant(kind: Kind) -> String {
    format!("quern_{}", kind.name().replace('-', "_"))
}

/// The unit that gives the author's plugin the functions of the contract.
fn entry(package: &Package) -> String {
    let kind = package.kind.name().replace('-', "_").to_uppercase();
    // What JSON escapes, C reads as it was.
    let [name, version, description] =
        [&package.name, &package.version, &package.description].map(|it| json!(it));
    format!(
        "/* Written by quern plugin build. */\n\
         #define QUERN_NAME {name}\n\
         #define QUERN_VERSION {version}\n\
         #define QUERN_DESCRIPTION {description}\n\
         #define QUERN_KIND_{kind}\n\
         #include \"exports.h\"\n\
         #include \"glue.c\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_is_of_the_kind_the_manifest_says() {
        for (kind, defined, name) in [
            (Kind::Filter, "QUERN_KIND_FILTER", "quern_filter"),
            (
                Kind::BodyFilter,
                "QUERN_KIND_BODY_FILTER",
                "quern_body_filter",
            ),
            (Kind::Selector, "QUERN_KIND_SELECTOR", "quern_selector"),
            (
                Kind::Allocation,
                "QUERN_KIND_ALLOCATION",
                "quern_allocation",
            ),
        ] {
            let package = Package {
                name: "geo".to_owned(),
                version: "1.2.3".to_owned(),
                description: "a \"geo\"".to_owned(),
                kind,
            };
            let entry = entry(&package);
            for line in [
                "#define QUERN_NAME \"geo\"\n".to_owned(),
                "#define QUERN_DESCRIPTION \"a \\\"geo\\\"\"\n".to_owned(),
                format!("#define {defined}\n"),
            ] {
                assert!(entry.contains(&line), "{line}: {entry}");
            }
            assert_eq!(constant(package.kind), name);
            let header = include_str!("../../../../../guest-sdk/c/quern.h");
            assert!(
                header.contains(&format!("extern const struct {name} {name};")),
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_no_clang_is_not_taken_for_one() {
        assert!(!is_able("quern-no-such-program"));
        let told = Compiler::found(
            Some("quern-no-such-program".to_owned()),
            &mut Spent::default(),
        );
        assert!(told.is_err());
    }
}
