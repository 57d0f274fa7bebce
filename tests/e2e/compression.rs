//! Compressed messages: whoever receives them, however, sees what was sent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use quern_client::{
    Compression, Filter, Message, MessageView, PullOptions, TransactionState, UndecidedMessage,
};
use tokio::runtime::Runtime;

use crate::sdk::connect;
use crate::world_with_node;

/// By key: bodies that get smaller and bodies that do not.
fn bodies() -> HashMap<String, Vec<u8>> {
    let line = |i: u32| format!("{{\"order\":{i},\"region\":\"eu\"}}\n");
    let json = |n: u32| (0..n).map(line).collect::<String>().into_bytes();
    let noise = |n: u32| {
        (0..n)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect()
    };
    let all: [Vec<u8>; 6] = [
        Vec::new(),
        json(1),
        json(100),
        json(9_000),
        noise(5_000),
        vec![0; 4 << 20],
    ];
    let numbered = all.into_iter().enumerate();
    numbered.map(|(n, body)| (format!("k{n}"), body)).collect()
}

fn check(seen: &[MessageView], compressed: Option<Compression>) -> Result<()> {
    let expected = bodies();
    ensure!(seen.len() == expected.len(), "{} messages", seen.len());
    for message in seen {
        let body = expected.get(message.keys()).context("one of them")?;
        ensure!(
            message.body() == &body[..],
            "{} of {compressed:?}",
            message.keys()
        );
        let shrinks = ["k2", "k3"].contains(&message.keys());
        if shrinks {
            ensure!(message.compression() == compressed);
        } else if ["k0", "k1"].contains(&message.keys()) {
            ensure!(
                message.compression().is_none(),
                "it is too small to be worth it"
            );
        }
    }
    Ok(())
}

#[test]
fn whoever_receives_a_compressed_message_sees_what_was_sent() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    Runtime::new()?.block_on(async {
        let client = connect(&world, &node).await?;
        let codecs = [
            None,
            Some(Compression::Lz4),
            Some(Compression::Zstd),
            Some(Compression::Zlib),
        ];
        for compression in codecs {
            let topic = compression.map_or_else(|| "plain".to_owned(), |it| it.to_string());
            client.admin().create_topic(&topic, 1).await?;
            let mut builder = client.producer("p");
            if let Some(compression) = compression {
                builder = builder.compress(compression);
            }
            let producer = builder.start().await?;
            for (key, body) in bodies() {
                producer.send(Message::new(&topic, body).key(&key)).await?;
            }
            // Pulled, received as a member of a group, popped.
            let pull = client.pull_consumer();
            let queue = pull.queues(&topic).await?.remove(0);
            let (mut at, end) = pull.offset_range(&queue).await?;
            let mut seen = Vec::new();
            while at < end {
                let pulled = pull.pull(&queue, at, &PullOptions::default()).await?;
                at = pulled.next;
                seen.extend(pulled.messages);
            }
            check(&seen, compression)?;
            let mut member = client
                .consumer("g")
                .subscribe(&topic, Filter::All)
                .start()
                .await?;
            let mut seen = Vec::new();
            while seen.len() < bodies().len() {
                seen.push(member.recv().await?);
            }
            check(&seen, compression)?;
            member.shutdown().await?;
            let popping = client
                .simple_consumer("popping")
                .subscribe(&topic, Filter::All);
            let mut simple = popping.start().await?;
            let mut seen = Vec::new();
            while seen.len() < bodies().len() {
                let delivery = simple.receive().await?;
                seen.push(delivery.message().clone());
                delivery.ack().await?;
            }
            check(&seen, compression)?;
        }
        Ok(())
    })
}

#[test]
fn the_command_line_compresses_and_shows_what_was_sent() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let connect = ["--namesrv", node.namesrv.as_str()];
    let quern = |args: &[&str]| world.ok(&[args, &connect].concat());
    let body = "a line of text that says itself again and again. ".repeat(100);
    for codec in ["lz4", "zstd", "zlib"] {
        quern(&["topic", "create", codec, "--queues", "1"])?;
        quern(&["produce", codec, &body, "--compress", codec])?;
        let shown = quern(&["consume", codec, "--format", "%v\\n"])?;
        ensure!(shown == format!("{body}\n"), "{codec}: {shown}");
    }
    let refused = world.fails(
        &[
            "produce",
            "lz4",
            "x",
            "--compress",
            "gzip",
            connect[0],
            connect[1],
        ],
        2,
        "lz4, zstd and zlib",
    );
    refused?;
    node.stop()?;
    // Offline too, and the log holds the short form.
    let data = world.path("data");
    let data = data.to_str().context("a path of text")?;
    for codec in ["lz4", "zstd", "zlib"] {
        let exported = world.ok(&["store", "export", data, "--topic", codec])?;
        ensure!(exported.contains(&body), "{codec}: {exported}");
    }
    Ok(())
}

#[test]
fn a_producer_that_is_asked_about_a_transaction_sees_its_body() -> Result<()> {
    let (world, node) = world_with_node(&["--tx-timeout", "200ms"])?;
    Runtime::new()?.block_on(async {
        let client = connect(&world, &node).await?;
        client.admin().create_topic("t", 1).await?;
        let body = "{\"sku\":\"A7\"}".repeat(500);
        let asked = Arc::new(Mutex::new(None));
        let check = {
            let asked = Arc::clone(&asked);
            move |message: UndecidedMessage| {
                *asked.lock().expect("nobody panics") = Some(message.body().to_vec());
                async { TransactionState::Commit }
            }
        };
        let producer = client.transaction_producer("p", check);
        let producer = producer.compress(Compression::Zstd).start().await?;
        drop(producer.begin(Message::new("t", body.clone())).await?);
        let mut member = client
            .consumer("g")
            .subscribe("t", Filter::All)
            .start()
            .await?;
        let received = tokio::time::timeout(Duration::from_secs(30), member.recv()).await??;
        ensure!(received.body() == body.as_bytes());
        ensure!(received.compression() == Some(Compression::Zstd));
        let asked = asked.lock().expect("nobody panics").take();
        ensure!(asked.as_deref() == Some(body.as_bytes()));
        Ok(())
    })
}
