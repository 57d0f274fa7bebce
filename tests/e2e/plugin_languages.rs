//! What is the same for the authors of plugins in every language.

use anyhow::{Context as _, Result, ensure};
use quern_harness::{Node, World, said};
use serde_json::Value;

use crate::plugin_author::Author;

/// What a filter made by `quern plugin new` answers, whatever it is written in.
pub(crate) const CASES: &str = include_str!("cases/languages.ndjson");
/// Cases that such a filter has of its own.
pub(crate) const OWN_CASES: usize = 6;

/// What a plugin makes of its cases, built anew unless a component is named.
pub(crate) fn rows(author: &Author<'_>, name: &str, more: &[&str]) -> Result<Vec<Value>> {
    let tested = author.run(name, &[&["plugin", "test", "-o", "json"], more].concat())?;
    serde_json::from_slice(&tested.stdout).with_context(|| said(&tested))
}

/// It judges what all languages judge alike.
pub(crate) fn judges_as_all_do(author: &Author<'_>, name: &str, more: &[&str]) -> Result<()> {
    let file = author.folder.join("languages.ndjson");
    std::fs::write(&file, CASES)?;
    let cases = file.to_string_lossy();
    let rows = rows(author, name, &[&["--cases", &cases], more].concat())?;
    ensure!(rows.len() == OWN_CASES + CASES.lines().count(), "{rows:?}");
    let failed: Vec<_> = rows.iter().filter(|row| row["passed"] != true).collect();
    ensure!(failed.is_empty(), "{failed:?}");
    Ok(())
}

/// Messages of the topic `orders`, each with its number as body and amount, and these regions in turn.
pub(crate) struct Orders<'a> {
    world: &'a World,
    namesrv: &'a str,
    count: usize,
}

impl<'a> Orders<'a> {
    pub(crate) const REGIONS: [&'static str; 3] = ["eu", "us", "eu😀"];

    pub(crate) fn send(world: &'a World, node: &'a Node, count: usize) -> Result<Self> {
        let line = |n: usize| {
            let region = Self::region(n);
            let properties = serde_json::json!({"region": region, "amount": n.to_string()});
            format!("{{\"body\":\"{n}\",\"properties\":{properties}}}\n")
        };
        let lines: String = (0..count).map(line).collect();
        let namesrv = node.namesrv.as_str();
        let at = ["--namesrv", namesrv];
        world.ok(&[&["topic", "create", "orders"][..], &at].concat())?;
        let produce = [&["produce", "orders", "--ndjson", "-"][..], &at].concat();
        world.ok_with_input(&produce, lines.as_bytes())?;
        Ok(Self {
            world,
            namesrv,
            count,
        })
    }

    pub(crate) fn region(n: usize) -> &'static str {
        Self::REGIONS[n % Self::REGIONS.len()]
    }

    pub(crate) fn upload(&self, author: &Author<'_>, name: &str, more: &[&str]) -> Result<()> {
        let upload = ["plugin", "upload", "--activate", "--namesrv", self.namesrv];
        author.ok(name, &[&upload, more].concat())?;
        Ok(())
    }

    fn consume<'b>(&'b self, args: &[&'b str]) -> Vec<&'b str> {
        [&["consume", "orders", "--namesrv", self.namesrv][..], args].concat()
    }

    /// Exactly those come whose amount is 100 or more and whose region is one of these.
    pub(crate) fn come(&self, args: &[&str], is_wanted: impl Fn(&str) -> bool) -> Result<()> {
        let printed = self.world.ok(&self.consume(args))?;
        let mut found: Vec<usize> = printed.lines().map(str::parse).collect::<Result<_, _>>()?;
        found.sort_unstable();
        let wanted = (100..self.count).filter(|n| is_wanted(Self::region(*n)));
        let wanted: Vec<usize> = wanted.collect();
        ensure!(found == wanted, "{args:?}: {found:?}");
        Ok(())
    }

    /// The filter that each author begins with lets through what its parameter says.
    pub(crate) fn come_by_param(&self, name: &str) -> Result<()> {
        for from in Self::REGIONS {
            let param = format!("from={from}");
            self.come(&["--plugin", name, "--param", &param], |it| it == from)?;
        }
        Ok(())
    }

    /// What a consumer is told whose expression is refused.
    pub(crate) fn refusal(&self, name: &str, expression: &str) -> Result<String> {
        let args = ["--plugin", name, "--expression", expression];
        let refused = self.world.run(&self.consume(&args))?;
        ensure!(!refused.status.success(), "{}", said(&refused));
        Ok(said(&refused))
    }
}

/// What a plugin does that it should not when a message is of the region of that name, and what is said of it.
pub(crate) type Misdeed = (&'static str, &'static str, &'static str);

/// Each is noticed, and one message more, behind all of them, is judged as ever.
pub(crate) fn are_noticed(author: &Author<'_>, name: &str, misdeeds: &[Misdeed]) -> Result<()> {
    let case = |region: &str| {
        format!("{{\"message\":{{\"properties\":{{\"region\":\"{region}\"}}}},\"expect\":true}}\n")
    };
    let regions = misdeeds.iter().map(|(region, ..)| *region);
    let cases: String = regions.chain(["eu"]).map(case).collect();
    std::fs::write(author.folder.join(name).join("cases.ndjson"), cases)?;
    let tested = author.run(name, &["plugin", "test", "-o", "json"])?;
    ensure!(tested.status.code() == Some(9), "{}", said(&tested));
    let rows: Vec<Value> = serde_json::from_slice(&tested.stdout)?;
    ensure!(rows.len() == misdeeds.len() + 1, "{rows:?}");
    for (row, (region, _, text)) in rows.iter().zip(misdeeds) {
        let says = row["said"].as_str().is_some_and(|it| it.contains(text));
        ensure!(says && row["passed"] == false, "{region}: {row}");
    }
    ensure!(rows[misdeeds.len()]["passed"] == true, "{rows:?}");
    Ok(())
}
