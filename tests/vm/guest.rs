//! A guest that runs the installed package on a data disk of its own, until its power is cut.
//!
//! `make test-vm` makes the guest (tests/vm/guest.sh) and names its directory in the environment.

use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A guest whose every instruction is emulated, on a busy machine, does within this time what it does at all.
const BOUND: Duration = Duration::from_secs(180);

/// Bytes; so disks are counted.
const SECTOR: u64 = 512;

const PAUSE: Duration = Duration::from_millis(1);

/// What a guest says when its `ipc-pipeline verify` has ended, before the exit code.
const VERIFIED: &str = "verify ended with";

/// What the shell of a guest says behind what a command printed, before its exit code.
const DONE: &str = "ended with ";

fn guest_file(name: &str) -> PathBuf {
    let dir = std::env::var_os("IPC_PIPELINE_GUEST");
    let dir = dir.expect("IPC_PIPELINE_GUEST is not set: `make test-vm` runs these tests");
    PathBuf::from(dir).join(name)
}

/// A command that must succeed; gives what it printed.
#[track_caller]
pub fn must(program: &str, args: &[&str]) -> String {
    let missing = |e| panic!("{program}: {e}: `make test-vm` gets what it needs");
    let out = Command::new(program).args(args).output().unwrap_or_else(missing);
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// The disk that keeps the record, a file here. Nothing else of a guest outlives its power.
pub struct Disk {
    dir: tempfile::TempDir,
    kind: String,
}

impl Disk {
    /// A new one with this file system, of so many MiB; the guest's pipeline gets this configuration.
    pub fn new(kind: &str, mebibytes: u64, config: &str) -> Disk {
        let dir = tempfile::tempdir_in(guest_file("")).unwrap();
        let disk = Disk { dir, kind: kind.into() };
        File::create(disk.image()).unwrap().set_len(mebibytes << 20).unwrap();
        must(&format!("mkfs.{kind}"), &["-q", disk.image().to_str().unwrap()]);
        let mounted = Mounted::at(&disk.image(), &disk.dir.path().join("mounted"));
        fs::write(mounted.dir.join("pipeline.toml"), config).unwrap();
        drop(mounted);
        disk
    }

    pub fn image(&self) -> PathBuf {
        self.dir.path().join("data.img")
    }

    /// Where QEMU records what was written, if that was asked for.
    pub fn writes(&self) -> PathBuf {
        self.dir.path().join("writes")
    }

    /// The file system counts what each user has; for an ext4.
    pub fn count_for_quotas(&self) {
        must(
            "tune2fs",
            &["-O", "quota", "-Q", "usrquota,^grpquota,^prjquota", self.image().to_str().unwrap()],
        );
    }

    /// After a cut, for a kernel here that may have no quotas.
    pub fn forget_quotas(&self) {
        let image = self.image();
        // What the journal holds is brought to its place; 1: it was not empty.
        let done = Command::new("e2fsck").arg("-fy").arg(&image).output().unwrap();
        assert!(done.status.code() <= Some(1), "{}", String::from_utf8_lossy(&done.stdout));
        must("tune2fs", &["-O", "^quota", image.to_str().unwrap()]);
    }

    pub fn sectors(&self) -> u64 {
        fs::metadata(self.image()).unwrap().len() / SECTOR
    }

    /// From where up to where an ext4 has nothing yet, as far as is on the disk.
    pub fn free_sectors(&self) -> Vec<[u64; 2]> {
        let text = must("dumpe2fs", &[self.image().to_str().unwrap()]);
        let after = |name: &'static str| text.lines().filter_map(move |line| line.trim().strip_prefix(name));
        let block: u64 = after("Block size:").next().unwrap().trim().parse().unwrap();
        let ranges = after("Free blocks: ").flat_map(|list| list.split(", "));
        let ranges = ranges.filter_map(|range| range.split_once('-'));
        let number = |text: &str| text.parse::<u64>().unwrap();
        ranges
            .map(|(first, last)| [number(first), number(last) + 1].map(|end| end * block / SECTOR))
            .collect()
    }

    /// Bytes of an ext4 that belong to no file yet, about `step` apart.
    pub fn free(&self, step: u64) -> Vec<u64> {
        let ranges = self.free_sectors().into_iter().map(|ends| ends.map(|sector| sector * SECTOR));
        ranges.flat_map(|[first, end]| (first..end).step_by(step as usize)).collect()
    }

    /// A copy as it is now.
    pub fn copy(&self, name: &str) -> PathBuf {
        let (image, copy) = (self.image(), self.beside(name));
        let names = [image.to_str().unwrap(), copy.to_str().unwrap()];
        // A new file each time, so that no loop device has anything of another copy in memory.
        must("cp", &[&["--remove-destination", "--sparse=always"], &names[..]].concat());
        copy
    }

    /// A place for another image.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// A file system in a file, mounted here; unmounted when dropped.
pub struct Mounted {
    dir: PathBuf,
}

impl Mounted {
    #[track_caller]
    pub fn at(image: &Path, dir: &Path) -> Mounted {
        fs::create_dir_all(dir).unwrap();
        must("mount", &["-o", "loop", image.to_str().unwrap(), dir.to_str().unwrap()]);
        Mounted { dir: dir.into() }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(&self.dir).status().is_ok_and(|status| status.success());
        // Still mounted, the next state of this disk would be mixed with what is in memory of this one.
        assert!(done || std::thread::panicking(), "{} stays mounted", self.dir.display());
    }
}

/// A line of the statistics that came over the serial line.
#[derive(Clone)]
pub struct Printed {
    pub line: Value,
    /// So many writes and flushes had been recorded when it was read; it may have been printed earlier.
    pub at: u64,
}

/// What stands between the guest and its data disk.
pub enum Between {
    Nothing,
    /// Each write and each flush goes into [`Disk::writes`], too.
    Recorder,
    /// The first write over each of these bytes of the disk fails with EIO.
    Faults(Vec<u64>),
    /// A device `data` of the guest's own device mapper; limits of the file system's quota hold.
    Mapper,
}

impl Between {
    /// For QEMU: from the node `image` to the node `data`.
    fn nodes(&self) -> Vec<String> {
        match self {
            Between::Nothing | Between::Mapper => vec!["driver=raw,node-name=data,file=image".into()],
            Between::Recorder => vec![
                "driver=file,node-name=writes,filename=writes".into(),
                "driver=blklogwrites,node-name=data,file=image,log=writes".into(),
            ],
            Between::Faults(places) => {
                let fault = |at: &u64| {
                    let sector = at / SECTOR;
                    json!({"event": "none", "iotype": "write", "errno": 5, "once": true, "sector": sector})
                };
                let faults: Vec<Value> = places.iter().map(fault).collect();
                let node = json!({"driver": "blkdebug", "node-name": "data", "image": "image", "inject-error": faults});
                vec![node.to_string()]
            }
        }
    }

    /// For the guest's process 1.
    fn words(&self) -> &str {
        match self {
            Between::Mapper => "mapped=yes options=usrquota",
            _ => "",
        }
    }
}

/// One life of a guest, from power on to power off.
pub struct Guest {
    qemu: Child,
    dir: PathBuf,
    pub printed: Vec<Printed>,
    /// Bytes of the serial line that are in `printed`.
    read: usize,
}

impl Guest {
    /// Power on.
    pub fn start(disk: &Disk, between: &Between) -> Guest {
        let dir = disk.dir.path().to_owned();
        for line in ["console", "printed", "verified", "writes", "shell"] {
            fs::write(dir.join(line), "").unwrap();
        }
        let path = |name: &str| guest_file(name).display().to_string();
        let mut c = Command::new("setpriv");
        c.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64", "-nodefaults", "-display", "none"]);
        c.args(["-accel", "tcg", "-cpu", "max", "-m", "384", "-no-reboot"]);
        c.args(["-kernel", &path("vmlinuz"), "-initrd", &path("initrd"), "-append"]);
        c.arg(format!(
            "console=ttyS0 panic=-1 no_timer_check mitigations=off audit=0 systemd.show_status=0 data={} {} \
             systemd.journald.forward_to_console=1",
            disk.kind,
            between.words()
        ));
        c.args(["-drive", &format!("file={},format=raw,if=none,id=root,snapshot=on", path("root.img"))]);
        c.args(["-device", "virtio-blk-pci,drive=root"]);
        c.args(["-blockdev", "driver=file,node-name=image,filename=data.img"]);
        for node in between.nodes() {
            c.args(["-blockdev", &node]);
        }
        c.args(["-device", "virtio-blk-pci,drive=data"]);
        for line in ["console", "printed", "verified"] {
            c.args(["-serial", &format!("file:{line}")]);
        }
        c.args(["-chardev", "stdio,id=shell,signal=off", "-device", "virtio-serial-pci"]);
        c.args(["-device", "virtserialport,chardev=shell"]);
        c.current_dir(&dir).stdin(Stdio::piped()).stdout(File::create(dir.join("shell")).unwrap());
        c.stderr(File::create(dir.join("qemu")).unwrap());
        let qemu = c.spawn().expect("setpriv (util-linux) and qemu-system-x86_64");
        Guest { qemu, dir, printed: Vec::new(), read: 0 }
    }

    /// Waits until this is so, taking in what is printed.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, mut done: impl FnMut(&Guest) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            let ended = self.qemu.try_wait().unwrap();
            let late = begun.elapsed() > BOUND;
            assert!(ended.is_none() && !late, "still not: {what} ({ended:?})\n{}", self.story());
            sleep(PAUSE);
            self.take_in();
        }
    }

    /// Lets it work on for so long.
    #[track_caller]
    pub fn work_for(&mut self, time: Duration) {
        let begun = Instant::now();
        self.wait_for("the time is over", |_| begun.elapsed() >= time);
    }

    /// Has its own `verify` found everything true after this start? Fails if it found anything else.
    pub fn has_verified(&self) -> bool {
        let said = self.text("verified");
        let ended = said.contains(VERIFIED) && said.ends_with('\n');
        assert!(
            !ended || said.ends_with(&format!("{VERIFIED} 0\n")),
            "verify in the guest says:\n{said}{}",
            self.story()
        );
        ended
    }

    /// Lets root do this, a line for the shell, and gives what it printed; it must succeed.
    #[track_caller]
    pub fn does(&mut self, command: &str) -> String {
        let before = self.text("shell").len();
        let mut stdin = self.qemu.stdin.as_ref().unwrap();
        stdin.write_all(format!("{command}\n").as_bytes()).unwrap();
        let mut said = String::new();
        self.wait_for(command, |guest| {
            said = guest.text("shell")[before..].into();
            said.lines().last().is_some_and(|line| line.starts_with(DONE)) && said.ends_with('\n')
        });
        let (printed, code) = said.trim_end().rsplit_once(DONE).unwrap();
        assert_eq!(code, "0", "{command}: {printed}\n{}", self.story());
        printed.trim_end().into()
    }

    /// What the kernel and the journal say.
    pub fn console(&self) -> String {
        self.text("console")
    }

    /// The power is cut: QEMU dies, and with it all that the guest had not written to its disk. Gives what it had printed.
    pub fn cut(mut self) -> Vec<Printed> {
        self.qemu.kill().unwrap();
        self.qemu.wait().unwrap();
        self.take_in();
        std::mem::take(&mut self.printed)
    }

    fn take_in(&mut self) {
        let text = self.text("printed");
        let new = &text[self.read..];
        let whole = new.rfind('\n').map_or(0, |end| end + 1);
        // Looked at after the line: a flush that the line rests on has been recorded by now.
        let at = recorded(&self.dir.join("writes"));
        for line in new[..whole].lines() {
            let parsed = serde_json::from_str(line).unwrap_or_else(|e| panic!("printed: {line}: {e}"));
            self.printed.push(Printed { line: parsed, at });
        }
        self.read += whole;
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join(name)).unwrap_or_default()).replace('\r', "")
    }

    fn story(&self) -> String {
        let console = self.console();
        let lines: Vec<&str> = console.lines().collect();
        format!("{}\n{}", self.text("qemu"), lines[lines.len().saturating_sub(60)..].join("\n"))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Number of entries that the head of QEMU's record of writes names.
fn recorded(writes: &Path) -> u64 {
    let mut word = [0; 8];
    let read = File::open(writes).and_then(|file| file.read_exact_at(&mut word, 16));
    read.map_or(0, |()| u64::from_le_bytes(word))
}
