//! Listeners: in order, queue by queue, whoever fails or is killed; and never further ahead than they may be.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use quern_client::{Client, Filter, GroupSetting, Message, MessageView};
use quern_harness::wait_until;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, oneshot};

use crate::sdk::connect;
use crate::world_with_node;

/// Numbers, each queue in turn.
async fn fill(client: &Client, queues: u32, count: usize) -> Result<()> {
    client.admin().create_topic("t", queues).await?;
    let producer = client.producer("p").linger(Duration::ZERO).start().await?;
    for n in 0..count {
        producer.send(Message::new("t", n.to_string())).await?;
    }
    Ok(())
}

fn place(message: &MessageView) -> (u32, u64) {
    (message.queue().queue.0, message.offset().0)
}

/// What listeners have seen, in the order they saw it.
type Seen = Arc<Mutex<Vec<(u32, u64)>>>;

#[test]
fn a_queue_goes_on_only_when_its_message_is_consumed() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(connect(&world, &node))?;
    runtime.block_on(fill(&client, 3, 120))?;
    let retries = vec![GroupSetting::Retries(2)];
    runtime.block_on(client.admin().change_group("g", retries))?;
    let seen = Seen::default();
    let (at_work, most) = (
        Arc::<[AtomicUsize; 3]>::default(),
        Arc::<AtomicUsize>::default(),
    );
    let listener = {
        let (seen, at_work, most) = (Arc::clone(&seen), Arc::clone(&at_work), Arc::clone(&most));
        move |message: MessageView| {
            let (seen, at_work, most) =
                (Arc::clone(&seen), Arc::clone(&at_work), Arc::clone(&most));
            async move {
                let (queue, offset) = place(&message);
                let here = at_work[queue as usize].fetch_add(1, Ordering::SeqCst);
                assert_eq!(here, 0, "two messages of queue {queue} at once");
                let all = at_work.iter().map(|it| it.load(Ordering::SeqCst)).sum();
                most.fetch_max(all, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
                let times = {
                    let mut seen = seen.lock().expect("nobody panics under it");
                    seen.push((queue, offset));
                    seen.iter().filter(|it| **it == (queue, offset)).count()
                };
                at_work[queue as usize].fetch_sub(1, Ordering::SeqCst);
                match (queue, offset) {
                    // Consumed in the end, and never.
                    (1, 5) if times < 3 => Err("not yet".to_owned()),
                    (2, 7) if times == 2 => panic!("as a listener may"),
                    (2, 7) => Err("never".to_owned()),
                    _ => Ok(()),
                }
            }
        }
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let consumer = client.consumer("g").subscribe("t", Filter::All);
    let consumer = consumer.suspend_time(Duration::from_millis(200));
    let consumer = runtime.block_on(consumer.start())?;
    let listens = consumer.listen_orderly(3, listener, async { drop(stopped.await) });
    let listens = runtime.spawn(listens);
    let length = || seen.lock().expect("nobody panics under it").len();
    wait_until("all to be consumed", || Ok(length() == 120 + 2 + 2))?;
    drop(stop);
    runtime.block_on(listens)??;
    let seen = seen.lock().expect("nobody panics under it").clone();
    for queue in 0..3 {
        let mut expected: Vec<u64> = (0..40).collect();
        match queue {
            1 => expected.splice(5..6, [5, 5, 5]).for_each(drop),
            2 => expected.splice(7..8, [7, 7, 7]).for_each(drop),
            _ => {}
        }
        let here = seen.iter().filter(|(it, _)| *it == queue);
        let here: Vec<u64> = here.map(|(_, offset)| *offset).collect();
        ensure!(here == expected, "queue {queue}: {here:?}");
    }
    ensure!(most.load(Ordering::SeqCst) > 1, "queues go on side by side");
    let letters = world.ok(&["dlq", "ls", "g", "-o", "ndjson", "--namesrv", &node.namesrv])?;
    ensure!(letters.lines().count() == 1, "{letters}");
    ensure!(
        letters.contains("\"attempts\":3") && letters.contains("never"),
        "{letters}"
    );
    Ok(())
}

/// A member's process, which ends with the test.
struct Member(std::process::Child);

impl Member {
    /// kill -9.
    fn kill(mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

#[test]
fn order_holds_while_members_are_killed_and_join() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    quern(&["topic", "create", "t", "--queues", "4"])?;
    let command = "echo $QUERN_QUEUE $QUERN_OFFSET >> ran";
    let consume = [
        "consume",
        "t",
        "--group",
        "g",
        "--follow",
        "--exec",
        command,
        "--orderly",
        "--namesrv",
        &at,
    ];
    let member = || world.command(&consume).spawn().map(Member);
    let mut members = vec![member()?, member()?];
    let ran = || std::fs::read_to_string(world.path("ran")).unwrap_or_default();
    let produce = |count: &str| quern(&["produce", "t", "--count", count, "x"]);
    let distinct = || {
        let ran = ran();
        ran.lines().collect::<std::collections::HashSet<_>>().len()
    };
    let mut all = 0;
    for round in 0..3 {
        produce("150")?;
        all += 150;
        wait_until("half of them to be consumed", || Ok(distinct() >= all - 75))?;
        members.push(member()?);
        members.remove(0).kill()?;
        if round == 1 {
            node.kill()?;
            node.start(&world, &[])?;
        }
    }
    wait_until("all to be consumed", || Ok(distinct() == all))?;
    members.into_iter().try_for_each(Member::kill)?;
    let mut last: HashMap<u32, u64> = HashMap::new();
    let mut newest: BTreeMap<u32, u64> = BTreeMap::new();
    let mut again = 0;
    for line in ran().lines() {
        let (queue, offset) = line.split_once(' ').context("two numbers")?;
        let (queue, offset): (u32, u64) = (queue.parse()?, offset.parse()?);
        let follows = last.get(&queue).map_or(0, |it| it + 1);
        // It goes on, or begins again where the group had committed: never with a gap.
        ensure!(
            offset <= follows,
            "queue {queue}: {offset} came where {follows} should"
        );
        again += usize::from(newest.get(&queue).is_some_and(|it| offset <= *it));
        last.insert(queue, offset);
        newest
            .entry(queue)
            .and_modify(|it| *it = offset.max(*it))
            .or_insert(offset);
    }
    println!("{all} messages, {again} of them again after kills");
    Ok(())
}

#[test]
fn a_message_that_is_stuck_bounds_how_far_its_queue_is_read() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(connect(&world, &node))?;
    runtime.block_on(fill(&client, 2, 1_000))?;
    let (seen, free) = (Seen::default(), Arc::<Notify>::default());
    let listener = {
        let (seen, free) = (Arc::clone(&seen), Arc::clone(&free));
        move |message: MessageView| {
            let (seen, free) = (Arc::clone(&seen), Arc::clone(&free));
            async move {
                let place = place(&message);
                if place == (0, 3) {
                    free.notified().await;
                }
                seen.lock().expect("nobody panics under it").push(place);
                Ok(())
            }
        }
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let consumer = client.consumer("g").subscribe("t", Filter::All);
    let consumer = consumer.pull_threshold(20, 1 << 20).max_span(60);
    let consumer = runtime.block_on(consumer.start())?;
    let listens = consumer.listen(4, listener, async { drop(stopped.await) });
    let listens = runtime.spawn(listens);
    let of = |queue: u32| {
        let seen = seen.lock().expect("nobody panics under it");
        seen.iter().filter(|(it, _)| *it == queue).count()
    };
    wait_until("the other queue to be consumed", || Ok(of(1) == 500))?;
    // What was read ahead of the one that is stuck, and no more.
    ensure!((3..100).contains(&of(0)), "{} of queue 0", of(0));
    free.notify_one();
    wait_until("all to be consumed", || Ok(of(0) == 500))?;
    drop(stop);
    runtime.block_on(listens)??;
    Ok(())
}

#[test]
fn a_message_that_takes_too_long_is_given_back() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(connect(&world, &node))?;
    runtime.block_on(fill(&client, 1, 10))?;
    let soon = vec![GroupSetting::RetryDelays(vec![100])];
    runtime.block_on(client.admin().change_group("g", soon))?;
    let seen = Arc::<Mutex<Vec<(String, u16)>>>::default();
    let listener = {
        let seen = Arc::clone(&seen);
        move |message: MessageView| {
            let seen = Arc::clone(&seen);
            async move {
                let body = String::from_utf8_lossy(message.body()).into_owned();
                if body == "4" && message.attempts() == 0 {
                    std::future::pending::<()>().await;
                }
                let seen_now = (body, message.attempts());
                seen.lock().expect("nobody panics under it").push(seen_now);
                Ok(())
            }
        }
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let consumer = client.consumer("g").subscribe("t", Filter::All);
    let consumer = consumer.consume_timeout(Duration::from_millis(300));
    let consumer = runtime.block_on(consumer.start())?;
    let listens = consumer.listen(2, listener, async { drop(stopped.await) });
    let listens = runtime.spawn(listens);
    let seen = || seen.lock().expect("nobody panics under it").clone();
    wait_until("all to be consumed", || Ok(seen().len() == 10))?;
    ensure!(seen().contains(&("4".to_owned(), 1)), "{:?}", seen());
    drop(stop);
    runtime.block_on(listens)??;
    Ok(())
}
