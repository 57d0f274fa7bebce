//! A path that loses packets and takes its time, between a driver and the broker it drives: the driver has a
//! network namespace of its own, whose only way out is a pair of TUN devices that this process carries packets
//! between. So the kernel's TCP and our QUIC meet the same losses, and nobody has to be asked for them.
//! Needs root, `ip` and `/dev/net/tun`.

use std::collections::VecDeque;
use std::net::UdpSocket;
use std::process::{Command, id};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::place::make;

/// The broker's end, which is this machine's own, and the driver's.
pub(crate) const BROKER: &str = "10.213.77.2";
const DRIVER: &str = "10.213.77.1";
const MTU: u16 = 1500;
/// Of a packet, in each direction.
const LOSS: f64 = 0.01;
const ONE_WAY: Duration = Duration::from_millis(10);
/// Packets under way in one direction; what comes when there are so many is lost, as in a router.
const UNDER_WAY: usize = 4_096;

/// Both devices and the namespace go when it is dropped.
#[derive(Debug)]
pub(crate) struct Path {
    namespace: String,
    devices: [String; 2],
    lost: Arc<AtomicU64>,
}

impl Drop for Path {
    fn drop(&mut self) {
        // Each fails only if it was not made. The threads end because their devices do.
        let _ = ip(&["netns", "del", &self.namespace]);
        for device in &self.devices {
            let _ = ip(&["link", "del", device]);
        }
    }
}

fn ip(args: &[&str]) -> Result<()> {
    make(Command::new("ip").args(args)).with_context(|| format!("ip {}", args.join(" ")))
}

fn device(name: &str) -> Result<Arc<SyncDevice>> {
    let built = DeviceBuilder::new().name(name).mtu(MTU).build_sync();
    let built = built.with_context(|| format!("making the network device {name} (needs root)"))?;
    Ok(Arc::new(built))
}

impl Path {
    pub(crate) fn open() -> Result<Self> {
        // With it twice, packets would go to the other run's broker.
        ensure!(
            UdpSocket::bind((BROKER, 0)).is_err(),
            "{BROKER} is an address of this machine already: of another run, or left over from one"
        );
        let number = id();
        let path = Self {
            namespace: format!("yardstick-{number}"),
            devices: [format!("qyd{number}"), format!("qyb{number}")],
            lost: Arc::default(),
        };
        let [driver, broker] = &path.devices;
        let ends = (device(driver)?, device(broker)?);
        ip(&["netns", "add", &path.namespace])?;
        ip(&["link", "set", driver, "netns", &path.namespace])?;
        ip(&["addr", "add", BROKER, "peer", DRIVER, "dev", broker])?;
        ip(&["link", "set", broker, "up"])?;
        let inside = ["-n", &path.namespace];
        let within = |args: &[&str]| ip(&[&inside[..], args].concat());
        within(&["addr", "add", DRIVER, "peer", BROKER, "dev", driver])?;
        within(&["link", "set", "lo", "up"])?;
        within(&["link", "set", driver, "up"])?;
        carry(Arc::clone(&ends.0), Arc::clone(&ends.1), 1, &path.lost);
        carry(ends.1, ends.0, 2, &path.lost);
        Ok(path)
    }

    /// The same command, at the driver's end. Its process id is the program's own.
    pub(crate) fn at_driver(&self, command: Command) -> Command {
        let mut wrapped = Command::new("ip");
        wrapped
            .args(["netns", "exec", &self.namespace])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(name, value),
                None => wrapped.env_remove(name),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            wrapped.current_dir(dir);
        }
        wrapped
    }

    /// Packets that were lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Packets on their way, and when they are due at the other end: all take as long, so they stay in order.
#[derive(Debug, Default)]
struct UnderWay {
    packets: VecDeque<(Instant, Vec<u8>)>,
    is_over: bool,
}

/// One direction, by two threads that end with the devices.
fn carry(from: Arc<SyncDevice>, to: Arc<SyncDevice>, seed: u64, lost: &Arc<AtomicU64>) {
    let way = Arc::new((Mutex::new(UnderWay::default()), Condvar::new()));
    let (out, lost) = (Arc::clone(&way), Arc::clone(lost));
    std::thread::spawn(move || {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut packet = vec![0; usize::from(MTU)];
        while let Ok(len) = from.recv(&mut packet) {
            let mut under_way = out.0.lock().expect("no one panics holding it");
            if random.f64() < LOSS || under_way.packets.len() >= UNDER_WAY {
                lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let due = Instant::now() + ONE_WAY;
            under_way.packets.push_back((due, packet[..len].to_vec()));
            out.1.notify_one();
        }
        out.0.lock().expect("no one panics holding it").is_over = true;
        out.1.notify_one();
    });
    std::thread::spawn(move || {
        while let Some((due, packet)) = next(&way) {
            while let Some(left) = due.checked_duration_since(Instant::now()) {
                std::thread::park_timeout(left);
            }
            // One that cannot be taken is lost, as packets are.
            let _ = to.send(&packet);
        }
    });
}

fn next(way: &(Mutex<UnderWay>, Condvar)) -> Option<(Instant, Vec<u8>)> {
    let mut under_way = way.0.lock().expect("no one panics holding it");
    loop {
        if let Some(packet) = under_way.packets.pop_front() {
            return Some(packet);
        }
        if under_way.is_over {
            return None;
        }
        under_way = way.1.wait(under_way).expect("no one panics holding it");
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::process::Stdio;

    use super::*;

    /// A line a connection: `cat` at the driver's end would need tools; bash alone opens sockets.
    const ECHO: &str = "exec 3<>/dev/tcp/10.213.77.2/$0; for i in $(seq $1); do echo $i >&3; read -r back <&3; [ $back = $i ] || exit 1; done";

    #[test]
    fn packets_take_their_time_and_some_are_lost() {
        let path = match Path::open() {
            Ok(path) => path,
            Err(error) => {
                println!("SKIPPED a path with loss and delay: {error:#}");
                return;
            }
        };
        let listener = TcpListener::bind((BROKER, 0)).expect("the broker's end is this machine's");
        let port = listener.local_addr().expect("it is bound").port();
        let mut driver = Command::new("bash");
        driver.args(["-c", ECHO, &port.to_string(), "100"]);
        let mut driver = path.at_driver(driver);
        let began = Instant::now();
        let mut child = driver.stdin(Stdio::null()).spawn().expect("bash runs");
        // Should nobody come, the child has ended and this thread with the test.
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("it connects");
            let mut line = [0; 64];
            while let Ok(len @ 1..) = stream.read(&mut line) {
                stream.write_all(&line[..len]).expect("it is read");
            }
        });
        assert!(child.wait().expect("it ends").success());
        // A hundred round trips of 20 ms and some packets of four hundred that had to be sent again.
        assert!(
            began.elapsed() >= Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
        assert!(path.lost() > 0);
    }
}
