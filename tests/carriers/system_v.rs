//! `sysv:` alone: a queue has a key and no name, and nobody can be woken by it.
#![forbid(unsafe_code)]

use super::*;

/// The key that the file of a System V queue says.
pub fn key_of(place: &Place) -> Option<i32> {
    let text = fs::read_to_string(place.names.sysv(Role::Log)).ok()?;
    i32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

/// A maker that was killed at any instant leaves a key without a queue, or a queue whose key is known.
#[test]
fn what_a_killed_maker_of_a_system_v_queue_leaves_is_found() {
    let place = Place::new(Address::Sysv);
    let path = place.names.sysv(Role::Log);
    let leave = |key: i32| {
        fs::write(&path, format!("{key:#010x}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let free = || {
        std::iter::repeat_with(|| fastrand::i32(1..)).find(|key| MessageQueue::find(*key).is_err()).unwrap()
    };
    let key = free();
    leave(key);
    drop(place.listen());
    assert!(key_of(&place).is_some_and(|new| new != key), "a key without a queue is replaced");
    place.remove();
    let key = free();
    leave(key);
    let queue = MessageQueue::create(key).unwrap();
    drop(place.listen());
    assert_eq!(key_of(&place), Some(key), "the queue is used");
    place.remove();
    assert!(queue.state().is_err(), "and removed");
    fs::write(path.with_extension("sysv.new"), "0x").unwrap();
    place.remove();
    assert_eq!(fs::read_dir(place.names.run_dir()).unwrap().count(), 0);
}

/// The same with real kills, in a world where there are no other queues.
#[test]
#[ignore = "needs root, for a namespace of its own"]
fn a_kill_at_any_call_leaves_no_system_v_queue() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        objects() { "$PROGRAM" objects $1 --name kill --set edge.log=sysv: > /dev/null; }
        queues() { echo $(($(wc -l < /proc/sysvipc/msg) - 1)); }
        for call in '?rename,?renameat,renameat2' msgget msgctl '?unlink,unlinkat'; do
            for n in 1 2 3 4 5; do
                for what in create remove; do
                    strace -qq -o /dev/null -e trace=$call -e inject=$call:signal=KILL:when=$n \
                        "$PROGRAM" objects $what --name kill --set edge.log=sysv: > /dev/null
                done
            done
            objects create && test $(queues) = 1 || { echo "behind $call there are $(queues) queues"; exit 1; }
            objects remove && test $(queues) = 0 || { echo "behind $call $(queues) queues are left"; exit 1; }
        done"#;
    let output = std::process::Command::new("unshare")
        .args(["--ipc", "sh", "-c", script])
        .env("PROGRAM", env!("CARGO_BIN_EXE_ipc-pipeline"))
        .envs([("XDG_RUNTIME_DIR", dir.path()), ("XDG_STATE_HOME", dir.path())])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// All keys can be seen, so anybody may take one that has become free, and give the queue to us; it stays in their power.
#[test]
#[ignore = "needs root, to be another user"]
fn a_system_v_queue_that_somebody_else_has_made_is_not_ours() {
    let place = Place::new(Address::Sysv);
    drop(place.listen());
    let key = key_of(&place).unwrap();
    MessageQueue::find(key).unwrap().remove().unwrap();
    let theirs = as_nobody(|| {
        let queue = MessageQueue::create(key).unwrap();
        queue.give(Some(0), Some(0), 0o600).unwrap();
        queue
    });
    let found = carrier::inlet(&place.names, Role::Log, place.address).err().expect("it is refused");
    assert!(found.is_missing(), "{found}");
    drop(place.listen());
    assert_ne!(key_of(&place), Some(key), "another key is taken");
    place.remove();
    assert!(theirs.state().is_ok(), "what is theirs stays");
    theirs.remove().unwrap();
}

/// Nobody can be woken by such a queue. A millisecond's sleep for each time that it is empty, or full, would make 2,000 messages,
/// of which it holds two, last for a second at least.
#[test]
fn a_queue_that_cannot_be_polled_is_hardly_slept_on() {
    const MESSAGES: usize = 2_000;
    let place = Place::new(Address::Sysv);
    let mut listening = place.listen();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut outlet, mut blind) = (place.outlet(), Blind::default());
            let m = message(1, outlet.message_max());
            for _ in 0..MESSAGES {
                while outlet.send(&m) != Sent::Sent {
                    carrier::wait(None, true, blind.next_wait());
                }
                blind.moved();
            }
        });
        let (mut came, mut buffer) = (0, vec![0; TURN_BYTES]);
        while came < MESSAGES {
            match listening.inlet().recv(&mut buffer) {
                0 => listening.wait(Duration::from_millis(100)),
                _ => came += 1,
            }
            assert!(begun.elapsed() < BOUND);
        }
    });
    assert!(begun.elapsed() < Duration::from_millis(500), "{MESSAGES} messages took {:?}", begun.elapsed());
    let mut blind = Blind::default();
    let rest: Duration = (0..100).map(|_| blind.next_wait()).sum();
    assert!(rest > Duration::from_millis(500), "100 waits for a carrier at rest last for {rest:?} only");
}

/// Without its file nobody finds the queue any more: whoever held it open removes it, and makes another.
#[test]
fn a_queue_whose_file_went_does_not_stay_for_ever() {
    let place = Place::new(Address::Sysv);
    let mut listening = place.listen();
    for _ in 0..3 {
        let key = key_of(&place).unwrap();
        fs::remove_file(place.names.sysv(Role::Log)).unwrap();
        assert!(listening.look().unwrap(), "it is made anew");
        assert!(MessageQueue::find(key).is_err(), "the old one stays");
    }
}

/// In a namespace of its own every queue that is left can be seen, whatever its key.
#[test]
#[ignore = "needs root, for a namespace of its own"]
fn makers_and_removers_at_the_same_time_leave_no_queue() {
    let test = "a_receiver_comes_up_while_somebody_removes_its_object_all_the_time";
    let program = std::env::current_exe().unwrap();
    let line = format!("{} --exact {test} >&2 && ipcs -q", program.display());
    let out = std::process::Command::new("unshare").args(["--ipc", "sh", "-c", &line]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let left = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(left.matches("0x").count(), 0, "{left}");
}
