//! Compressed bodies are read once when they come in, so that whoever reads them later can rely on them.

use bytes::Bytes;
use quern_plugins::Runtime;
use quern_protocol::block::crc_around;
use quern_protocol::{Code, Compression, Filter, Message, QueueId, Send};
use quern_store::sim::SimFs;

use crate::{WITHIN, connect, create, pull, topic};

/// A block that says what it likes, with a good checksum.
fn resealed(block: &Bytes, change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut bytes = block.to_vec();
    change(&mut bytes);
    let crc = crc_around(&bytes, 4..8);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    Bytes::from(bytes)
}

fn raw_len(block: &mut [u8], len: u32) {
    block[20..24].copy_from_slice(&len.to_le_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_decompress_to_what_it_says_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = Runtime::new(&quern_plugins::Config::default()).unwrap();
    let connection = connect(dir.path(), crate::config(), &plugins, &SimFs::default()).await;
    create(&connection, 1).await;
    let send = async |blocks: Vec<Bytes>| {
        let request = Send::new(topic(), QueueId(0), blocks.len() as u32);
        let sent = connection.call(&request, blocks, WITHIN).await;
        sent.map(drop).map_err(|error| error.code().number)
    };
    let body = "{\"sku\":\"A7\"}\n".repeat(1_000);
    let plain = Message::new("t", body.clone()).encode("id", 0).unwrap();
    let bad = Err(Code::BAD_MESSAGE.number);
    let too_large = Err(Code::TOO_LARGE.number);
    for compression in Compression::ALL {
        let message = Message::new("t", body.clone()).tag("good");
        let good = message.encode_with("id", 0, Some(compression)).unwrap();
        assert!(good.len() < plain.len() / 10, "{compression}");
        let longer = resealed(&good, |it| raw_len(it, body.len() as u32 + 1));
        let shorter = resealed(&good, |it| raw_len(it, 1));
        let end = good.len() - 8;
        let damaged = resealed(&good, |it| it[end - 32..end].fill(0x55));
        let beyond = resealed(&good, |it| raw_len(it, (4 << 20) + 1));
        let bomb = resealed(&good, |it| raw_len(it, 4 << 20));
        for (block, refused) in [
            (longer, bad),
            (shorter, bad),
            (damaged, bad),
            (beyond, too_large),
            (bomb, too_large),
        ] {
            // One that is bad takes those beside it along, as with every other fault.
            assert_eq!(send(vec![plain.clone(), block]).await, refused);
        }
        assert_eq!(send(vec![good]).await, Ok(()), "{compression}");
    }
    let unknown = resealed(&plain, |it| it[8] = 4);
    assert_eq!(send(vec![unknown]).await, Err(Code::UNSUPPORTED.number));
    let lying = resealed(&plain, |it| raw_len(it, 7));
    assert_eq!(send(vec![lying]).await, bad);
    // Each is allowed, all of them at once are not: 33 times 1 MiB.
    let noisy: String = (0..1u32 << 20)
        .map(|i| char::from(b'a' + (i.wrapping_mul(2_654_435_761) >> 27) as u8 % 26))
        .collect();
    let message = Message::new("t", noisy);
    let block = message
        .encode_with("id", 0, Some(Compression::Zstd))
        .unwrap();
    assert!(block.len() < 200_000, "{}", block.len());
    assert_eq!(send(vec![block.clone(); 33]).await, too_large);
    assert_eq!(send(vec![block; 32]).await, Ok(()));
    let (reply, tags) = pull(&connection, 0, Filter::All).await.unwrap();
    assert_eq!(reply.max.0, 3 + 32);
    assert_eq!(tags[..3], ["good", "good", "good"]);
}
