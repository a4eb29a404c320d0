//! Edges over carriers: their configuration, and their objects by other means than the product's own.

use super::{Pipeline, Role};
use ipc_pipeline::sys::MessageQueue;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

/// The `[edge]` section with all three edges on this carrier.
pub fn all_edges(carrier: &str) -> String {
    edges([carrier; 3])
}

/// The `[edge]` section with log, stat and report each on a carrier, each port free at this moment.
pub fn edges(carriers: [&str; 3]) -> String {
    let [log, stat, report] = carriers.map(address);
    format!("[edge]\nlog = \"{log}\"\nstat = \"{stat}\"\nreport = \"{report}\"\n")
}

fn address(carrier: &str) -> String {
    match carrier {
        "tcp" | "udp" => format!("{carrier}:{}", free_port()),
        _ => format!("{carrier}:"),
    }
}

/// Below the range from which the kernel takes ports for others.
pub fn free_port() -> u16 {
    let free = |port: &u16| {
        TcpListener::bind(("127.0.0.1", *port)).is_ok() && UdpSocket::bind(("127.0.0.1", *port)).is_ok()
    };
    std::iter::repeat_with(|| fastrand::u16(20_000..32_000)).take(100).find(free).expect("a free port")
}

impl Pipeline {
    fn queue(&self, role: Role) -> String {
        format!("/ipc-pipeline@{}.{}", self.name, role.name())
    }

    /// The System V queue whose key the run directory says.
    pub fn system_v_queue(&self, role: Role) -> Option<MessageQueue> {
        let text = fs::read_to_string(self.run_dir().join(format!("{}.sysv", role.name()))).ok()?;
        MessageQueue::find(i32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()?).ok()
    }

    /// The message queues that there are; their file system need not be mounted.
    pub fn queues(&self) -> Vec<PathBuf> {
        let names = Role::ALL.map(|role| self.queue(role));
        let there = names.into_iter().filter(|name| posixmq::OpenOptions::readonly().open(name).is_ok());
        there.map(|name| Path::new("/dev/mqueue").join(name.trim_start_matches('/'))).collect()
    }

    /// Takes away what a role listens at, whatever that is.
    pub fn delete_inlet(&self, role: Role) {
        let _ = posixmq::remove_queue(&self.queue(role));
        let _ = self.system_v_queue(role).map(|queue| queue.remove());
        for path in [format!("{}.fifo", role.name()), format!("{}/socket", role.name())] {
            let _ = fs::remove_file(self.run_dir().join(path));
        }
    }
}
