//! The SDK for C carries the contract in binary form, as a linker puts it into a module: `guest-sdk/c/contract.h`.

use std::fmt::Write as _;
use std::fs;

use wit_component::StringEncoding;

use crate::here;

/// Which world each kind of plugin is of.
const WORLDS: [(&str, &str); 4] = [
    ("FILTER", "filter-plugin"),
    ("BODY_FILTER", "body-filter-plugin"),
    ("SELECTOR", "queue-selector-plugin"),
    ("ALLOCATION", "allocation-strategy-plugin"),
];

fn written() -> String {
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_dir(here("../../wit")).unwrap();
    let mut out = String::from(
        "/* Which functions a component has, in binary form, for the tool that makes one of a module.\n \
         * Written by QUERN_GOLDEN=write cargo test -p quern-golden. */\n",
    );
    for (at, (kind, name)) in WORLDS.into_iter().enumerate() {
        let world = resolve.select_world(&[package], Some(name)).unwrap();
        let bytes =
            wit_component::metadata::encode(&resolve, world, StringEncoding::UTF8, None).unwrap();
        let word = if at == 0 { "#if" } else { "#elif" };
        let _ = write!(
            out,
            "{word} defined QUERN_KIND_{kind}\n__asm__(\".section \\\".custom_section.component-type:"
        );
        let _ = writeln!(out, "{name}\\\",\\\"\\\",@\\n\"");
        for line in bytes.chunks(24) {
            let line: Vec<String> = line.iter().map(u8::to_string).collect();
            let _ = writeln!(out, "        \".byte {}\\n\"", line.join(","));
        }
        out += "        \".text\\n\");\n";
    }
    out += "#else\n#error \"it is of no kind\"\n#endif\n";
    out
}

/// What is frozen is in `wit/`; this is the same in other words, so it may be written anew.
#[test]
fn the_contract_in_c_is_the_contract() {
    let (path, today) = (here("../../guest-sdk/c/contract.h"), written());
    if std::env::var_os("QUERN_GOLDEN").is_some_and(|it| it == "write") {
        fs::write(&path, &today).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap() == today,
        "wit/ is not what guest-sdk/c/contract.h says; QUERN_GOLDEN=write writes it"
    );
}
