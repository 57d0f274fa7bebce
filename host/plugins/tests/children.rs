//! What a stranger may upload, through the two child processes: this program is its own child, so
//! it has a `main` of its own.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};

use quern_plugins::{
    COMPONENT_LIMIT, Compiler, Config, HOSTILE, Kind, Runtime, Step, plugin_child_main,
    with_vectors,
};

fn main() {
    plugin_child_main();
    let tests: [(&str, fn()); 7] = [
        ("what_is_sound_is_let_in", what_is_sound_is_let_in),
        (
            "the_examples_pass_with_their_cases",
            the_examples_pass_with_their_cases,
        ),
        ("one_of_javascript_is_let_in", one_of_javascript_is_let_in),
        ("every_kind_of_c_is_let_in", every_kind_of_c_is_let_in),
        ("what_is_not_gets_its_code", what_is_not_gets_its_code),
        ("a_child_that_does_not_answer", a_child_that_does_not_answer),
        (
            "a_second_start_compiles_nothing",
            a_second_start_compiles_nothing,
        ),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
}

fn compiler() -> Compiler {
    Compiler::Child(std::env::current_exe().unwrap())
}

fn runtime(compiler: Compiler, dir: Option<PathBuf>) -> Runtime {
    let config = Config {
        instances: 8,
        compiler,
        dir,
        cache: None,
    };
    Runtime::new(&config).unwrap()
}

/// The hostile guest with one case: what it is asked, and what it should say.
fn hostile(expression: &str, expect: &str) -> Vec<u8> {
    let case = format!("{{\"expression\":\"{expression}\",{expect}}}");
    with_vectors(HOSTILE, case.as_bytes()).unwrap()
}

fn what_is_sound_is_let_in() {
    let runtime = runtime(compiler(), None);
    assert!(runtime.takes_uploads());
    let mut steps = Vec::new();
    let sound = hostile("good", "\"expect\":true");
    let (checked, report) = runtime.admit(&sound, |step| steps.push(step)).unwrap();
    assert_eq!(checked.kind, Kind::Filter);
    assert_eq!(steps, [Step::Checking, Step::Compiling, Step::Trying]);
    assert_eq!((&*report.name, &*report.version), ("hostile", "0.0.1"));
    assert_eq!((report.expressions, report.cases), (2, 1));
    assert!(
        report.judged >= 2_048 && report.fuel_per_message > 0,
        "{report:?}"
    );
    // A refusal may be expected, too.
    runtime
        .admit(
            &hostile("refuse", &format!("\"refused\":\"{}\"", "x".repeat(1_024))),
            |_| {},
        )
        .unwrap();
    let plugin = runtime.load("hostile@1", &sound).unwrap();
    assert_eq!(plugin.language(), Some("HOSTILE"));
}

fn the_examples_pass_with_their_cases() {
    let runtime = runtime(compiler(), None);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../filters-examples");
    for (name, kind) in [
        ("region-router", Kind::QueueSelector),
        ("percentage-rollout", Kind::Filter),
        ("json-field", Kind::BodyFilter),
        ("geo-fence", Kind::Filter),
    ] {
        let file = format!("quern-example-{name}.wasm");
        let bytes = fs::read(Path::new(env!("EXAMPLES")).join(file)).unwrap();
        let cases = fs::read(root.join(name).join("cases.ndjson")).unwrap();
        let bytes = with_vectors(&bytes, &cases).unwrap();
        let (checked, report) = runtime.admit(&bytes, |_| {}).unwrap();
        assert_eq!((checked.kind, &*report.name), (kind, name));
        assert!(report.cases >= 5 && report.judged >= 2_048, "{report:?}");
    }
}

/// Made by `quern plugin new eu-filter --language js` and `quern plugin build`, its cases inside: QuickJS, an SDK in
/// JavaScript, and what an author wrote.
fn one_of_javascript_is_let_in() {
    let file = "../../tests/golden/plugins/javascript/eu-filter.wasm";
    let bytes = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let runtime = runtime(compiler(), None);
    let (checked, report) = runtime.admit(&bytes, |_| {}).unwrap();
    assert_eq!(checked.kind, Kind::Filter);
    assert_eq!((&*report.name, &*report.version), ("eu-filter", "0.1.0"));
    assert_eq!((report.expressions, report.cases), (2, 6), "{report:?}");
}

/// Made by `quern plugin new my-KIND --language c --kind KIND` and `quern plugin build`, their cases inside, by the clang
/// in ziglang 0.17.1.
fn every_kind_of_c_is_let_in() {
    let runtime = runtime(compiler(), None);
    for (name, kind) in [
        ("my-filter", Kind::Filter),
        ("my-body-filter", Kind::BodyFilter),
        ("my-selector", Kind::QueueSelector),
        ("my-allocation", Kind::AllocationStrategy),
    ] {
        let file = format!("../../tests/golden/plugins/c/{name}.wasm");
        let bytes = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let (checked, report) = runtime.admit(&bytes, |_| {}).unwrap();
        assert_eq!((checked.kind, &*report.name), (kind, name));
        assert!(bytes.len() < 32 * 1024 && report.cases >= 5, "{report:?}");
    }
}

/// A component that declares a million types.
fn a_million_types() -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    let mut section = vec![0xc0, 0x84, 0x3d];
    section.extend(std::iter::repeat_n(0x7f, 1_000_000));
    bytes.extend([7, 0xc3, 0x84, 0x3d]);
    bytes.extend(section);
    bytes
}

/// A core module around one function of this many bytes, inside a component.
fn one_function(len: usize) -> Vec<u8> {
    let leb = |mut value: usize| {
        let mut out = Vec::new();
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        out
    };
    let section = |id: u8, body: Vec<u8>| [vec![id], leb(body.len()), body].concat();
    let code = [vec![0], vec![0x01; len], vec![0x0b]].concat();
    let code = [vec![1], leb(code.len()), code].concat();
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, vec![1, 0x60, 0, 0]),
        section(3, vec![1, 0]),
        section(10, code),
    ];
    [b"\0asm\x0d\0\x01\0".to_vec(), section(1, module.concat())].concat()
}

fn what_is_not_gets_its_code() {
    let runtime = runtime(compiler(), None);
    // An empty instance type, imported under a name of WASI.
    let mut wasi = b"\0asm\x0d\0\x01\0\x07\x03\x01\x42\x00".to_vec();
    let name = b"wasi:clocks/monotonic-clock@0.2.0";
    wasi.extend([0x0a, name.len() as u8 + 5, 1, 0, name.len() as u8]);
    wasi.extend(name);
    wasi.extend([5, 0]);
    let mut damaged = HOSTILE.to_vec();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 64].fill(0xff);
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("a core module", b"\0asm\x01\0\0\0".to_vec(), 4101),
        ("half of one", HOSTILE[..HOSTILE.len() / 2].to_vec(), 4101),
        ("code that is none", damaged, 4101),
        ("WASI", wasi, 4102),
        ("no exports", b"\0asm\x0d\0\x01\0".to_vec(), 4103),
        ("too many bytes", vec![0; COMPONENT_LIMIT + 1], 4104),
        ("a million types", a_million_types(), 4104),
        ("a long function", one_function(100_000), 4104),
        (
            "an author who errs",
            hostile("good", "\"expect\":false"),
            4106,
        ),
        (
            "cases that are none",
            with_vectors(HOSTILE, b"?").unwrap(),
            4106,
        ),
        ("a memory", hostile("counter", "\"expect\":true"), 4107),
        ("a trap", hostile("trap", "\"expect\":true"), 4301),
        ("no end", hostile("loop", "\"expect\":true"), 4302),
        ("hunger", hostile("bomb", "\"expect\":true"), 4303),
        ("a wrong answer", hostile("short", "\"expect\":true"), 4304),
    ];
    for (what, bytes, code) in cases {
        let error = runtime.admit(&bytes, |_| {}).unwrap_err();
        assert_eq!(error.code(), code, "{what}: {error}");
    }
}

fn a_child_that_does_not_answer() {
    for program in ["/bin/true", "/bin/false"] {
        let runtime = runtime(Compiler::Child(program.into()), None);
        let error = runtime.admit(HOSTILE, |_| {}).unwrap_err();
        assert_eq!(error.code(), 4105, "{program}: {error}");
    }
    let runtime = runtime(Compiler::Child("/nonexistent".into()), None);
    let error = runtime.admit(HOSTILE, |_| {}).unwrap_err();
    assert_eq!(error.code(), 9001, "{error}");
}

fn a_second_start_compiles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = dir.path().join("plugins");
    let tag = runtime(compiler(), Some(plugins.clone()));
    let digest = tag.built_in("tag").unwrap().unwrap().digest().to_owned();
    // Now there is nobody who could compile.
    let nobody = Compiler::Child("/nonexistent".into());
    let again = runtime(nobody.clone(), Some(plugins.clone()));
    assert_eq!(again.built_in("tag").unwrap().unwrap().digest(), digest);
    // What somebody has touched is not run.
    let folder = fs::read_dir(plugins.join("cwasm")).unwrap().next();
    let file = folder.unwrap().unwrap().path().join(digest);
    let file = file.with_extension("cwasm");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let touched = runtime(nobody, Some(plugins));
    assert_eq!(touched.built_in("tag").unwrap().unwrap_err().code(), 9001);
    assert!(!file.exists());
}
