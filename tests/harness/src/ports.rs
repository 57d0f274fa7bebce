//! Ports for nodes. The system gives none of these to a socket that asks for any port, so a node that is killed finds
//! its own again, however many clients connect in the meantime; and no two processes with tests share one.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

const FIRST: u16 = 20_000;
/// Ports of one process. The first of them is held as a TCP port, which says that they are taken.
const BLOCK: u16 = 1_000;
const BLOCKS: u16 = 12;

#[derive(Debug)]
struct Block {
    _taken: TcpListener,
    first: u16,
    /// How often somebody has asked.
    turn: u16,
}

impl Block {
    fn take() -> Result<Self> {
        let mut firsts = (0..BLOCKS).map(|block| FIRST + block * BLOCK);
        let taken = firsts.find_map(|first| {
            let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).ok()?;
            Some(Self {
                _taken: taken,
                first,
                turn: 0,
            })
        });
        taken.with_context(|| format!("{BLOCKS} other processes have tests under way"))
    }

    fn next(&mut self) -> u16 {
        self.turn = self.turn % (BLOCK - 1) + 1;
        self.first + self.turn
    }
}

/// A UDP port of loopback that is free, and that nobody is given soon again.
pub fn free_port() -> Result<u16> {
    static OURS: Mutex<Option<Block>> = Mutex::new(None);
    let mut ours = OURS.lock().unwrap_or_else(PoisonError::into_inner);
    let block = match &mut *ours {
        Some(block) => block,
        none => none.insert(Block::take()?),
    };
    let mut ports = (1..BLOCK).map(|_| block.next());
    let free = ports.find(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.with_context(|| format!("no UDP port of {BLOCK} from {} on is free", block.first))
}
