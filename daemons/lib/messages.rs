//! The messages that have an identity: what `journalctl MESSAGE_ID=...` finds and `journalctl -x` explains.
//!
//! A log line carries it in its key `id`: `log::warn!(id = Message::ClockStep, seconds = 3; "the clock was set")`. All
//! other keys become fields of the journal, too. An id never changes and is never used for something else.
#![forbid(unsafe_code)]

use log::kv::{ToValue, Value};

/// Makes the enum, its list and its ids from one table.
macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident = $id:literal,)*) => {
        /// What a message is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Message {
            $($(#[$doc])* $name,)*
        }

        impl Message {
            /// All of them.
            pub const ALL: &[Message] = &[$(Message::$name,)*];

            /// Its MESSAGE_ID: 32 lower-case hex digits.
            pub const fn id(self) -> &'static str {
                match self {
                    $(Message::$name => $id,)*
                }
            }
        }
    };
}

messages! {
    /// A daemon is ready.
    Started = "1ad693b468d24ef9843b1de55a7f5ac2",
    /// A daemon has ended as it was told to.
    Ended = "f667d238a06c40b391abcf067ed4b041",
    /// The life before did not end by itself: it was killed, or has crashed.
    CutShort = "24eac7ab4f2b4bf2a5123736434d8851",
    /// A daemon's loop did not turn for too long, so it was replaced.
    Watchdog = "9069e9d4118e47bf8d3c2de6fea34ddf",
    /// `ipc-pipeline run` starts a daemon again that has died.
    Restarted = "dc3e0dd0ecc745869ae7d13ad923a039",
    /// The command line or the configuration is wrong.
    ConfigRefused = "9b5c9dde666841e29723b9771a277ecc",
    /// A running daemon has read its configuration again.
    ConfigReadAgain = "981361dbd4ee4119a0b8a29e73037559",
    /// A running daemon has found its configuration wrong, and goes on with the one that it has.
    ConfigNotTaken = "bb49d55ca2034b9db7369542ca8dfcb6",
    /// The source gave what is no sample, and the configuration says to stop then.
    InputRefused = "f3b15b7fdcf64ae2ba5d9b6aa6b3a41a",
    /// An object of the daemon is gone: it ends, to be started again.
    ObjectGone = "9c261c47044b42e6b34fffb1af82f6fb",
    /// A bug of ours ends the daemon.
    Bug = "f8ee0e3b77e54a6daf5ca1c7dca0a915",
    /// The system refused something that the daemon cannot do without.
    SystemRefused = "5b84934927c54f77b123a0f81b5e61b6",
    /// Whoever read report's lines has gone.
    NobodyReads = "3cc580e64c064362bba3827e71805b38",
    /// The instance already has such a daemon.
    SecondInstance = "c8e73fdd09374db69d1ed92c0bbef7e2",
    /// A new spool, hence a new epoch.
    EpochBegins = "9fa1e6d9263c4144acd494068323bfae",
    /// conv goes on in the spool of its life before.
    Resumed = "cbac25d2e2034ce0a6edc622f3ac91ae",
    /// The record is open.
    RecordOpened = "1d13877ee92d4dea8d2eb9bfde87abbc",
    /// The last life of log left something to put right.
    Recovered = "a7dd54f849e54137943e3daeb900cf69",
    /// Durable entries are damaged.
    Damaged = "a97a18f068e24eb4b2d3d455060cc388",
    /// Accepted entries were damaged in the spool: a CORRUPT entry stands in the place of each.
    DamagedInSpool = "9d69fbf94d824f7d95218c37504f62b5",
    /// A daemon waits for another one.
    Waiting = "a2e7c222777e4a20926d57d422bf8bdd",
    /// log has gone while conv goes on.
    LogGone = "3142e7fafa334972bf2d20efaae80f9d",
    /// log is back.
    LogBack = "91e92806d597423998f5eca786f8386e",
    /// Entries are only in the spool, and nobody is there to make them durable.
    LeftInSpool = "f49971ab74db411497d429313df39c9a",
    /// A new capacity of the spool takes effect later.
    OldCapacity = "407cd489971140b3b110f28b564f8c5b",
    /// Spool and record do not belong together.
    ForeignRecord = "5b22b7af5e2847ec841051bfd41bd7b8",
    /// Two daemons were started with different carriers.
    WrongAddress = "a4e1b59b07cc418d85ae202d6f99226d",
    /// The spool's words make no sense.
    SpoolUnusable = "61fa6e7dd9214b339c676e1ffbda5dfc",
    /// A named object was missing or wrong, and was put right.
    ObjectRepaired = "36a9fac37ea64beb918b4d21ec0758ca",
    /// A named object cannot be put right yet.
    ObjectTrouble = "50c1bb2c2b084edba9f0c8c82163b6b8",
    /// The source has no reading.
    SourceTrouble = "dcbe13847e5344849c1fc874e7c86491",
    /// The source has readings again.
    SourceBack = "7e2086bc973b46ad833df3bd7f7c50a3",
    /// The source gave what is no sample; it was skipped and counted.
    BadInput = "a80b62ecad554a4099d8da1b8cbfe16a",
    /// What the program of a source says on its standard error.
    ProgramSaid = "cab166d5685f40699ed440fe23f9f82e",
    /// The wall clock was set, or the machine was suspended.
    ClockStep = "7a82555be39048caa91e7dedd23283f3",
    /// The system refused conv's real-time priority.
    RealtimeRefused = "186017e7dafe46079abff23dec34214a",
    /// Ticks passed without a sample.
    TicksMissed = "10a2816863a54e1799c9cbfc5bad29ab",
    /// Samples were dropped because the spool was full.
    SamplesLost = "0ad0bb657f544a2d884edcfbaba7d8c9",
    /// There is no room for the record.
    DiskFull = "4025c8abd5f740b18e7287b203631682",
    /// The disk refuses the record for another reason.
    DiskTrouble = "7bd05cc99bda4cf0aa4c1f2362c0c99a",
    /// The disk takes entries again.
    DiskBack = "a4ce47822c724b9d97c908639c3b6adf",
    /// A disk does not answer in time.
    DiskSlow = "3bfacef1fdb043b0bf6186a05215e90d",
    /// It does so again.
    DiskInTime = "fd299b4663744828a392352f4caf0990",
    /// Entries did not reach the disk and are taken from the spool once more.
    TakenAgain = "ce1bb580bc214214850313834e1c775d",
    /// `log.text` cannot be written.
    TextTrouble = "0ad4f2051b504cbd9910b1b6c8534116",
    /// Old segments cannot be compressed or removed.
    KeeperTrouble = "353748d1fa7a4bb6a12e9ce9e7911e38",
    /// The oldest entries were removed; their summary is kept.
    RecordShortened = "d3750ff686b24a9d834d462920065a7d",
    /// stat cannot read the record.
    RecordUnreadable = "adc6aaae6e94481f83ad9faec6ccc16d",
    /// A checkpoint of the statistics cannot be written.
    CheckpointTrouble = "2f727693a1f74bafa8d3f393b9dca0b0",
    /// The statistics begin anew, from another record.
    StatisticsAnew = "ca4181bff5da40abb348fb9cc8739e88",
    /// An alarm has begun, or has changed.
    AlarmBegins = "bf0a34e7ef42419bb8074227701dd72e",
    /// The alarms of a channel are over.
    AlarmOver = "398ddec70fd143fb8c40b42e70d99ea1",
    /// The command for alarms failed, or could not be given one.
    CommandFailed = "e99e4f6ed5644c10b3251709f1084902",
    /// Messages found no room in the log's socket.
    MessagesLost = "17c485598e604daf8653a980f906092b",
    /// One line of report, with its numbers.
    Line = "33f09e15ce144ccba67e5aea4c0dda1d",
}

impl Message {
    /// The message of this id.
    pub fn of(id: &str) -> Option<Message> {
        Message::ALL.iter().copied().find(|message| message.id() == id)
    }

    /// Is it more than normal life, but nothing to look after: the end of a trouble? Then its priority is *notice*,
    /// which the logging facade has no level for.
    pub const fn is_notice(self) -> bool {
        matches!(
            self,
            Message::AlarmOver
                | Message::DiskBack
                | Message::DiskInTime
                | Message::LogBack
                | Message::SourceBack
        )
    }
}

impl ToValue for Message {
    fn to_value(&self) -> Value<'_> {
        Value::from(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_message_has_an_id_of_its_own() {
        let ids: BTreeSet<&str> = Message::ALL.iter().map(|message| message.id()).collect();
        assert_eq!(ids.len(), Message::ALL.len());
        for id in ids {
            assert!(id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{id}");
        }
        assert!(Message::ALL.iter().all(|message| Message::of(message.id()) == Some(*message)));
        assert_eq!(Message::of(""), None);
    }
}
