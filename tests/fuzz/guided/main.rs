//! libFuzzer's side of the targets: `FUZZ_TARGET` says which one, and `FUZZ_SEEDS` where its right inputs go
//! before it begins; its words go into a file beside that.
#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

#[allow(dead_code)]
#[path = "../../../daemons/ctl/condition.rs"]
mod condition;
#[allow(dead_code)]
#[path = "../../../daemons/ctl/moment.rs"]
mod moment;
#[allow(dead_code)]
#[path = "../../../daemons/conv/source/mod.rs"]
mod source;

use std::sync::OnceLock;
use targets::{TARGETS, Target};

static TARGET: OnceLock<&Target> = OnceLock::new();

fn target() -> &'static Target {
    TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET says which one");
        TARGETS.iter().find(|target| target.name == name).expect("FUZZ_TARGET is one of the targets")
    })
}

libfuzzer_sys::fuzz_target!(
    init: {
        if let Some(dir) = std::env::var_os("FUZZ_SEEDS").map(std::path::PathBuf::from) {
            let word = |word: &&str| format!("\"{}\"\n", word.bytes().map(|b| format!("\\x{b:02x}")).collect::<String>());
            let words: String = target().words.iter().map(word).collect();
            std::fs::write(dir.with_extension("dict"), format!("# words\n{words}")).expect("a file for words");
            for (i, seed) in (target().seeds)().iter().enumerate() {
                std::fs::write(dir.join(format!("seed{i}")), seed).expect("a file for a seed");
            }
        }
    },
    |input: &[u8]| target().try_input(input)
);
