//! What users meet of the plugins that decide for them: conditions on properties, and what a bad one
//! is told.

use anyhow::Result;

use crate::world_with_node;

#[test]
fn conditions_on_properties_choose_messages() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = ["--namesrv", &node.namesrv.clone()];
    let quern = |args: &[&str]| world.ok(&[args, &at].concat());
    quern(&["topic", "create", "orders", "--queues", "3"])?;
    let regions = ["eu", "us", "cn", ""];
    let line = |n: usize| {
        let region = match regions[n % 4] {
            "" => String::new(),
            region => format!("\"region\":\"{region}\","),
        };
        let amount = match n % 10 {
            9 => "many".to_owned(),
            _ => n.to_string(),
        };
        format!(
            "{{\"body\":\"{n}\",\"tag\":\"t{}\",\"properties\":{{{region}\"amount\":\"{amount}\"}}}}\n",
            n % 3
        )
    };
    let lines: String = (0..2_000).map(line).collect();
    let produce = ["produce", "orders", "--ndjson", "-", at[0], at[1]];
    world.ok_with_input(&produce, lines.as_bytes())?;

    type Wanted = fn(usize) -> bool;
    let cases: &[(&str, Wanted)] = &[
        ("region = 'eu' AND amount > 100", |n| {
            n % 4 == 0 && n % 10 != 9 && n > 100
        }),
        // "many" is an error beside a number, and never delivered; not even by its opposite.
        ("NOT (amount > 100)", |n| n % 10 != 9 && n <= 100),
        ("amount BETWEEN 5 AND 15 OR region IS NULL", |n| {
            n % 10 != 9 && ((5..=15).contains(&n) || n % 4 == 3)
        }),
        ("TAGS = 't1' AND region IN ('eu', 'cn')", |n| {
            n % 3 == 1 && n % 2 == 0
        }),
        ("amount CONTAINS 'an'", |n| n % 10 == 9),
        ("region = 'nowhere'", |_| false),
    ];
    for (condition, wanted) in cases {
        let printed = quern(&["consume", "orders", "--sql", condition])?;
        let mut found: Vec<usize> = printed.lines().map(str::parse).collect::<Result<_, _>>()?;
        found.sort_unstable();
        let wanted: Vec<usize> = (0..2_000).filter(|n| wanted(*n)).collect();
        assert_eq!(found, wanted, "{condition}");
    }
    Ok(())
}

#[test]
fn a_bad_condition_is_shown_with_a_mark_under_the_place() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = ["--namesrv", node.namesrv.as_str()];
    world.ok(&["topic", "create", "t", at[0], at[1]])?;
    for (condition, shown) in [
        (
            "region = 'eu' AND AND amount > 1",
            "\n  region = 'eu' AND AND amount > 1\n                    ^^^\n",
        ),
        ("größe > 1", "\n  größe > 1\n    ^\n"),
        ("a = 'it", "\n  a = 'it\n      ^\n"),
        ("a = 1 b", "\n  a = 1 b\n        ^\n"),
        ("NOT a > 5", "\n  NOT a > 5\n  ^^^^^\n"),
        ("a >", "\n  a >\n     ^\n"),
    ] {
        let args = ["consume", "t", "--sql", condition, at[0], at[1]];
        world.fails(&args, 2, "Q-4201")?;
        world.fails(&args, 2, shown)?;
    }
    Ok(())
}
