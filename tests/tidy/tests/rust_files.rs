//! Every Rust file of the repository against every rule, and every rule against its own samples.

use quern_tidy::finding::{Finding, expect_none};
use quern_tidy::lexer::RustText;
use quern_tidy::rust_rules::RULES;
use quern_tidy::tree::Tree;

/// Above this a file is shown as a candidate for splitting; `rust_rules::MAX_LINES` fails.
const LONG: usize = 500;

#[test]
fn rust_files_follow_the_rules() {
    let rust = Tree::open().unwrap().rust();
    assert!(!rust.is_empty(), "no Rust file was found");
    let mut findings: Vec<Finding> = Vec::new();
    for file in &rust {
        let lines = file.lines_without_tests();
        if lines > LONG {
            println!("{}: {lines} lines without tests: split it soon", file.path);
        }
        findings.extend(RULES.iter().flat_map(|rule| rule.findings(file)));
    }
    expect_none(&findings);
}

#[test]
fn every_rule_catches_its_bad_samples_and_passes_its_good_ones() {
    for rule in RULES {
        assert!(!rule.bad.is_empty(), "{} has no bad sample", rule.name);
        assert!(!rule.good.is_empty(), "{} has no good sample", rule.name);
        for (path, text) in rule.bad {
            let found = rule.findings(&RustText::new(path, text));
            assert!(!found.is_empty(), "{} passes {path}: {text}", rule.name);
        }
        for (path, text) in rule.good {
            let found = rule.findings(&RustText::new(path, text));
            assert!(found.is_empty(), "{} catches {text}: {found:?}", rule.name);
        }
    }
}

#[test]
fn a_finding_names_place_rule_and_remedy() {
    let rule = RULES.iter().find(|r| r.name == "unsafe").unwrap();
    let file = RustText::new("a.rs", "fn f() {\n    unsafe { g() }\n}\n");
    let shown = rule.findings(&file)[0].to_string();
    assert!(shown.starts_with("a.rs:2: [unsafe]"), "{shown}");
    assert!(shown.contains("| fix: "), "{shown}");
}

#[test]
fn views_hide_strings_and_comments_but_keep_lines() {
    let cases = [
        ("let s = \"a // b\"; x", true),
        ("let s = r#\"a \" x \"#; y // z", false),
        ("let c = '\"'; x /* \n /* x */ \n */ y", true),
        ("let c = '\\''; let d = b'\\\\'; x", true),
        ("fn f<'a>(s: &'a str) { x }", true),
        ("let s = \"\\\" x\"; y", false),
        ("let b = br\"x\"; let r#type = c\"x\";", false),
        ("let u = 'ö'; x // ö x", true),
    ];
    for (raw, has_x) in cases {
        let file = RustText::new("a.rs", raw);
        let seen = quern_tidy::lexer::has_word(&file.code.replace('\n', " "), "x");
        assert_eq!(seen, has_x, "{raw} became {}", file.code);
        assert_eq!(file.code.lines().count(), raw.lines().count());
    }
}

#[test]
fn test_modules_are_not_counted() {
    let text =
        "//! A.\nfn f() {}\n#[cfg(test)]\nmod tests {\n    fn g() { \"}\"; }\n}\nfn h() {}\n";
    let file = RustText::new("a.rs", text);
    assert_eq!(file.lines_without_tests(), 3);
    assert!(file.is_test_line(5) && !file.is_test_line(7) && !file.is_test_line(0));
}
