//! The block of a message that has arrived, its body decompressed.

use bytes::Bytes;
use quern_protocol::{Block, BlockError};

use crate::error::{Error, Result};

#[derive(Debug, Clone)]
pub(crate) struct Letter {
    block: Bytes,
    /// Of one that was compressed.
    body: Option<Bytes>,
}

fn bad(error: BlockError) -> Error {
    Error::new(error.code(), error.to_string())
}

impl Letter {
    /// Verifies the block first.
    pub(crate) fn read(block: Bytes) -> Result<Self> {
        Block::parse(&block).map_err(bad)?;
        Self::verified(block)
    }

    /// One that was verified when it arrived.
    pub(crate) fn verified(block: Bytes) -> Result<Self> {
        let mut letter = Self { block, body: None };
        let block = letter.block();
        if block.compression().is_some() {
            let body = block.body().map_err(|error| bad(error.into()))?;
            letter.body = Some(body.into_owned().into());
        }
        Ok(letter)
    }

    pub(crate) fn block(&self) -> Block<'_> {
        Block::lengths(&self.block).expect("it was verified when it arrived")
    }

    /// As its producer gave it.
    pub(crate) fn body(&self) -> &[u8] {
        let stored = || self.block().stored_body();
        self.body.as_deref().unwrap_or_else(stored)
    }

    /// What it takes beside the block.
    pub(crate) fn decompressed_len(&self) -> usize {
        self.body.as_ref().map_or(0, Bytes::len)
    }
}
