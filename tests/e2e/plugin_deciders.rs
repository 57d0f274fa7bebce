//! Selectors and strategies on trial and failing: who decides, who stands in, what nobody loses by it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use quern_harness::{said, wait_until};

use crate::bench::{Bench, Running, canary};

const HASH: &str = "quern-selector-hash";
/// To the first queue, always; but it traps on an order key or a tag with `poison` in it.
const FIRST: &str = "quern-hostile-selector";
const BY_P: [&str; 3] = ["t", "--select", "p"];
const KEYS: usize = 60;
const OF_KEY: usize = 4;

fn key(number: usize) -> String {
    format!("customer-{number}")
}

/// Whether a trial of this share takes a key.
fn takes(permille: u32, key: &str) -> bool {
    canary(permille).takes_key(key)
}

/// A message of each key, and so again; in the body the round and the key.
fn lines(round: &str, keys: impl Iterator<Item = String> + Clone) -> String {
    let line = |key: String| format!("{{\"body\":\"{round}:{key}\",\"order_key\":\"{key}\"}}\n");
    (0..OF_KEY).flat_map(|_| keys.clone()).map(line).collect()
}

impl Bench {
    /// Two versions of selector `p`: one spreads the keys, the other does not.
    fn with_selectors() -> Result<Self> {
        let bench = Self::bare()?;
        bench.quern(&["topic", "create", "t", "--queues", "8"])?;
        bench.take_in(HASH, "p")?;
        bench.upload(FIRST, "p")?;
        Ok(bench)
    }

    /// Sends messages of these keys; the queue each is in, all messages of a key in one.
    fn queues(
        &self,
        round: &str,
        keys: impl Iterator<Item = String> + Clone,
    ) -> Result<BTreeMap<String, u32>> {
        self.produce_so(&BY_P, &lines(round, keys))?;
        let (mut queues, mut count) = (BTreeMap::new(), 0);
        for line in self
            .quern(&["consume", "t", "--format", "%q %v\\n"])?
            .lines()
        {
            let (queue, body) = line.split_once(' ').context("two words")?;
            let Some(key) = body.strip_prefix(&format!("{round}:")) else {
                continue;
            };
            count += 1;
            let queue: u32 = queue.parse()?;
            let before = queues.insert(key.to_owned(), queue);
            ensure!(before.is_none_or(|it| it == queue), "{key} straddles");
        }
        ensure!(count == queues.len() * OF_KEY, "{count}");
        Ok(queues)
    }
}

#[test]
fn a_selector_on_trial_takes_order_keys_whole() -> Result<()> {
    let mut bench = Bench::with_selectors()?;
    let all = || (0..KEYS).map(key);
    let by_active = bench.queues("alone", all())?;
    ensure!(by_active.values().collect::<BTreeSet<_>>().len() > 4);
    let moves = |share| all().filter(move |it| takes(share, it));

    bench.quern(&["plugin", "canary", "p@2", "--share", "40%"])?;
    let right: BTreeMap<_, _> = by_active
        .iter()
        .map(|(key, queue)| (key.clone(), if takes(400, key) { 0 } else { *queue }))
        .collect();
    ensure!(right != by_active);
    ensure!(bench.queues("canary", all())? == right);
    let decided = bench.trial()?["decided"].as_u64();
    ensure!(decided == Some((moves(400).count() * OF_KEY) as u64));
    bench.node.kill()?;
    bench.node.start(&bench.world, &[])?;
    ensure!(bench.queues("again", all())? == right, "after a crash too");

    bench.quern(&["plugin", "shadow", "p@2", "--share", "70%"])?;
    ensure!(bench.queues("shadow", all())? == by_active);
    let trial = bench.trial()?;
    let otherwise = moves(700).filter(|it| by_active[it] != 0).count() * OF_KEY;
    let counts = ["decided", "otherwise", "failed"].map(|it| trial[it].as_u64());
    let counted = [moves(700).count() * OF_KEY, otherwise, 0].map(|it| Some(it as u64));
    ensure!(counts == counted, "{trial}");
    let named = trial["moves"].as_array().context("moves")?;
    ensure!(named.len() == 32, "{trial}");
    for moved in named {
        let key = moved["key"].as_str().context("a key")?;
        let queue = format!("broker-a/{}", by_active[key]);
        ensure!(
            moved["active"] == queue.as_str() && moved["trial"] == "broker-a/0",
            "{moved}"
        );
    }

    // What it fails on is chosen for by the active one, and after five of those its trial is over.
    bench.quern(&["plugin", "canary", "p@2", "--share", "100%"])?;
    let poison = || (0..6).map(|n| format!("poison-{n}"));
    let queues = bench.queues("poison", poison())?;
    ensure!(queues.len() == 6, "{queues:?}");
    wait_until("the trial to end by itself", || {
        Ok(bench.states("p")?[1] == "ready")
    })?;
    ensure!(bench.queues("after", all())? == by_active);
    Ok(())
}

#[test]
fn a_trapping_selector_gives_way_to_the_version_before() -> Result<()> {
    let mut bench = Bench::with_selectors()?;
    bench.quern(&["plugin", "activate", "p@2"])?;
    // A few are not enough; they are refused, for their place is a promise.
    let one = "{\"body\":\"x:y\",\"order_key\":\"poison\"}\n";
    for _ in 0..2 {
        let refused = bench.try_to_produce(&BY_P, one)?;
        ensure!(said(&refused).contains("Q-4301"), "{}", said(&refused));
    }
    ensure!(bench.states("p")? == ["retired", "active"]);
    // Those without an order key take the queues in turn.
    let line = |n: usize| format!("{{\"body\":\"x:{n}\",\"tag\":\"poison\"}}\n");
    bench.produce_so(&BY_P, &(0..2).map(line).collect::<String>())?;
    // Too many; whoever sends again what was refused finds the version before.
    let many = lines("x", (0..10).map(|n| format!("poison-{n}")));
    wait_until("the version before to stand in", || {
        let sent = bench.try_to_produce(&BY_P, &many)?;
        ensure!(
            sent.status.success() || said(&sent).contains("Q-4301"),
            "{}",
            said(&sent)
        );
        Ok(sent.status.success())
    })?;
    ensure!(bench.states("p")? == ["active", "quarantined"]);
    let listed = bench.listed("p")?;
    let why = listed["health"]["quarantined"].as_str().context("why")?;
    ensure!(
        why.starts_with("p@2: it failed on ") && why.contains("Q-4301"),
        "{why}"
    );
    // One whose answer is late is chosen for once more.
    let [refused, in_turn] = ["refused", "in_turn"].map(|it| listed["health"][it].as_u64());
    let (refused, in_turn) = (refused.unwrap_or(0), in_turn.unwrap_or(0));
    ensure!(refused >= 5 && in_turn >= 2, "{listed}");
    let shown = bench.quern(&["plugin", "ls"])?;
    let counts = format!("{refused} refused, {in_turn} in turn");
    ensure!(shown.contains(&counts), "{shown}, not {counts}");
    bench.node.kill()?;
    bench.node.start(&bench.world, &[])?;
    let pinned = ["t", "--select", "p@2"];
    let refused = bench.try_to_produce(&pinned, one)?;
    ensure!(said(&refused).contains("Q-4405"), "{}", said(&refused));
    bench.produce_so(&pinned, &line(2))?;
    let all = bench.quern(&["consume", "t"])?;
    for n in 0..3 {
        ensure!(
            all.lines().filter(|it| *it == format!("x:{n}")).count() == 1,
            "{all}"
        );
    }
    bench.quern(&["plugin", "activate", "p@2"])?;
    ensure!(
        bench.states("p")? == ["retired", "active"],
        "an operator lifts it"
    );
    Ok(())
}

const QUEUES: usize = 8;

impl Bench {
    /// A topic of eight queues, and a strategy `p`.
    fn with_strategies(packages: &[&str]) -> Result<Self> {
        let bench = Self::bare()?;
        bench.quern(&["topic", "create", "t", "--queues", &QUEUES.to_string()])?;
        for package in packages {
            bench.upload(package, "p")?;
        }
        bench.quern(&["plugin", "activate", "p@1"])?;
        Ok(bench)
    }

    fn member(&self, group: &str, name: &str) -> Result<Running> {
        let args = ["--group", group, "--allocate", "p"];
        let format = ["--format", "%q %o %v\\n"];
        self.run(name, &[&args[..], &format].concat())
    }

    /// Members of a group, by the queues they hold leases of; all queues have owners once this returns.
    fn shares(&self, group: &str, members: usize) -> Result<BTreeMap<String, Vec<u64>>> {
        let mut shares = BTreeMap::new();
        let what = format!("{members} members to share the queues");
        wait_until(&what, || {
            // Nobody may be there yet.
            shares = self.owners(group).unwrap_or_default();
            let owned: usize = shares.values().map(Vec::len).sum();
            Ok(shares.len() == members && owned == QUEUES)
        })?;
        Ok(shares)
    }

    fn owners(&self, group: &str) -> Result<BTreeMap<String, Vec<u64>>> {
        let mut shares = BTreeMap::<String, Vec<u64>>::new();
        for row in self.list(&["group", "describe", group])? {
            if let Some(owner) = row["owner"].as_str().filter(|_| row["topic"] == "t") {
                let queue = row["queue"].as_u64().context("a queue")?;
                shares.entry(owner.to_owned()).or_default().push(queue);
            }
        }
        Ok(shares)
    }
}

/// The queues of each of two members, whoever has which.
fn of_two(shares: BTreeMap<String, Vec<u64>>) -> BTreeSet<Vec<u64>> {
    shares.into_values().collect()
}

#[test]
fn a_strategy_on_trial_shares_out_whole_groups() -> Result<()> {
    let strategies = [
        "quern-strategy-averagely",
        "quern-strategy-averagely-by-circle",
    ];
    let mut bench = Bench::with_strategies(&strategies)?;
    let group = |is_taken: bool| {
        let mut names = (0..).map(|n| format!("g{n}"));
        names
            .find(|it| takes(500, it) == is_taken)
            .context("a group")
    };
    let (taken, other) = (group(true)?, group(false)?);
    let join = |name: &str, group: &str| bench.member(group, name);
    let _members = [
        join("1", &taken)?,
        join("2", &taken)?,
        join("3", &other)?,
        join("4", &other)?,
    ];
    let in_blocks = BTreeSet::from([vec![0, 1, 2, 3], vec![4, 5, 6, 7]]);
    let in_turn = BTreeSet::from([vec![0, 2, 4, 6], vec![1, 3, 5, 7]]);
    let are = |bench: &Bench, group: &str, right: &BTreeSet<Vec<u64>>| {
        wait_until(&format!("{group} to have {right:?}"), || {
            Ok(of_two(bench.shares(group, 2)?) == *right)
        })
    };
    are(&bench, &taken, &in_blocks)?;
    are(&bench, &other, &in_blocks)?;

    bench.quern(&["plugin", "shadow", "p@2", "--share", "50%"])?;
    let mut trial = bench.trial()?;
    wait_until("the shadow to have looked", || {
        trial = bench.trial()?;
        Ok(trial["decided"] != 0)
    })?;
    let counts = ["decided", "agreed", "otherwise"].map(|it| trial[it].as_u64());
    ensure!(counts == [Some(8), Some(4), Some(4)], "{trial}");
    let moves = trial["moves"].as_array().context("moves")?;
    let moved: BTreeSet<_> = moves.iter().map(|it| it["queue"].as_str()).collect();
    let right = [1, 3, 4, 6].map(|it| format!("broker-a/{it}"));
    ensure!(
        moved == right.iter().map(|it| Some(it.as_str())).collect(),
        "{trial}"
    );
    ensure!(
        moves.iter().all(|it| it["group"] == taken.as_str()),
        "{trial}"
    );
    are(&bench, &taken, &in_blocks)?;

    bench.quern(&["plugin", "canary", "p@2", "--share", "50%"])?;
    are(&bench, &taken, &in_turn)?;
    are(&bench, &other, &in_blocks)?;
    ensure!(bench.trial()?["decided"] == 8, "{}", bench.trial()?);
    bench.node.kill()?;
    bench.node.start(&bench.world, &[])?;
    are(&bench, &taken, &in_turn)?;
    are(&bench, &other, &in_blocks)?;
    bench.quern(&["plugin", "trial", "p", "--end"])?;
    are(&bench, &taken, &in_blocks)
}

/// The hostile strategy traps for it.
const GROUP: &str = "poisoned";

#[test]
fn a_trapping_strategy_gives_way_and_its_group_goes_on() -> Result<()> {
    let bench = Bench::with_strategies(&["quern-strategy-averagely", "quern-hostile-strategy"])?;
    let mut sent = 0;
    let mut send = || {
        let line = |n: usize| format!("{{\"body\":\"{n}\"}}\n");
        bench.produce("t", &(sent..sent + 40).map(line).collect::<String>())?;
        sent += 40;
        Ok::<_, anyhow::Error>(())
    };
    let mut members = vec![bench.member(GROUP, "m0")?, bench.member(GROUP, "m1")?];
    bench.shares(GROUP, 2)?;
    send()?;
    bench.quern(&["plugin", "activate", "p@2"])?;
    let failed = || {
        let health = &bench.listed("p")?["health"];
        let count = |it: &str| health[it].as_u64().context("a count");
        Ok::<_, anyhow::Error>(count("kept")? + count("averagely")?)
    };
    wait_until("it to fail", || Ok(failed()? > 0))?;
    bench.shares(GROUP, 2)?;
    send()?;
    // Whoever comes makes it share out again; whoever goes too.
    let (mut lines, mut name) = (Vec::new(), members.len());
    while bench.states("p")? != ["active", "quarantined"] {
        ensure!(name < 40, "it fails for ever");
        let before = failed()?;
        members.push(bench.member(GROUP, &format!("m{name}"))?);
        name += 1;
        wait_until("it to fail", || {
            Ok(failed()? > before || bench.states("p")?[1] == "quarantined")
        })?;
        lines.extend(members.remove(0).stop()?);
        send()?;
    }
    bench.shares(GROUP, 2)?;
    send()?;
    let all = |lines: &[String], members: &[Running]| {
        let mut all = lines.to_vec();
        for member in members {
            all.extend(member.lines()?);
        }
        Ok::<_, anyhow::Error>(all)
    };
    wait_until("all messages", || Ok(all(&lines, &members)?.len() >= sent))?;
    for member in members {
        lines.extend(member.stop()?);
    }
    let places = lines.iter().filter_map(|it| it.rsplit_once(' '));
    let (places, bodies): (BTreeSet<_>, BTreeSet<_>) = places.unzip();
    // One owner a queue, so nothing came twice.
    let counts = [lines.len(), places.len(), bodies.len()];
    ensure!(counts == [sent; 3], "{sent}: {counts:?}");
    let listed = bench.listed("p")?;
    let why = listed["health"]["quarantined"].as_str().context("why")?;
    ensure!(
        why.contains("sharings out") && why.contains("Q-4301"),
        "{why}"
    );
    ensure!(failed()? >= 5, "{listed}");

    let before = failed()?;
    let by_number = ["consume", "t", "--group", "h", "--allocate", "p@2"];
    ensure!(bench.quern(&by_number)?.lines().count() == sent);
    ensure!(failed()? > before, "shared out by averagely");
    let param = ["--allocate-param", "mode=trap"];
    bench.fails(
        &[&by_number[..4], &["--allocate", "sticky"], &param].concat(),
        2,
        "Q-4202",
    )?;
    Ok(())
}
