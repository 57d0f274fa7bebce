//! Clients that are connected and do nothing. For brokers on TCP each is a socket on which a client's first words
//! were said and answered: what a broker keeps of one does not depend on the library at the other end.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::interrupt;

/// Longest a broker takes for one of them.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
pub(crate) struct Crowd(Vec<TcpStream>);

impl Crowd {
    /// More of them until there are so many.
    pub(crate) fn grow(&mut self, address: &str, greeting: &[u8], count: usize) -> Result<()> {
        while self.0.len() < count {
            interrupt::check()?;
            let one = self.0.len() + 1;
            let stream = connect(address, greeting);
            self.0
                .push(stream.with_context(|| format!("connection {one} of {count}"))?);
        }
        Ok(())
    }
}

fn connect(address: &str, greeting: &[u8]) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(greeting)?;
    let mut answer = [0; 4_096];
    ensure!(stream.read(&mut answer)? > 0, "it was closed at once");
    Ok(stream)
}

/// As many open files as this machine lets a process have: those it starts inherit it.
pub(crate) fn allow() -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("raising the number of files that may be open")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn each_is_answered() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let server = std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().take(3) {
                let mut stream = stream.expect("a connection");
                let mut greeting = [0; 5];
                stream.read_exact(&mut greeting).expect("it greets");
                stream.write_all(b"yes").expect("it listens");
                held.push(stream);
            }
        });
        let mut crowd = Crowd::default();
        crowd.grow(&address, b"hello", 1).expect("one");
        crowd.grow(&address, b"hello", 3).expect("three");
        server.join().expect("all were served");
        assert_eq!(crowd.0.len(), 3);
        let nobody = crowd
            .grow(&address, b"hello", 4)
            .expect_err("nobody is there any more");
        assert!(format!("{nobody:#}").contains("connection 4 of 4"));
    }
}
