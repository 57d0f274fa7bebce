//! A block as a producer sends it: whatever comes, it is a block or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quern_fuzz::mend_block;
use quern_protocol::Block;

fn parse(bytes: &[u8]) {
    if let Ok(block) = Block::parse(bytes) {
        assert!(bytes.starts_with(block.bytes()));
        let pairs: usize = block
            .properties()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        let parts = block.tag().len() + block.keys().len() + pairs + block.stored_body().len();
        assert!(parts <= bytes.len());
        assert_eq!(Block::lengths(bytes), Ok(block));
    }
}

fuzz_target!(|bytes: &[u8]| {
    parse(bytes);
    let mut mended = bytes.to_vec();
    if mend_block(&mut mended).is_some() {
        parse(&mended);
    }
});
