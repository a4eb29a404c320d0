//! The names and places of one instance (docs/formats.md, "Names"): the only code that spells them.
//!
//! [`Names`] is a struct of plain paths, so that every kind of instance is one constructor.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Longest name of an instance, in bytes.
pub const INSTANCE_LEN_MAX: usize = 32;

/// One of the four daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Takes samples and publishes them in the spool.
    Conv,
    /// Makes them durable.
    Log,
    /// Folds them into statistics.
    Stat,
    /// Prints the statistics.
    Report,
}

impl Role {
    /// All roles, in the order of their numbers.
    pub const ALL: [Role; 4] = [Role::Conv, Role::Log, Role::Stat, Role::Report];

    /// The role's word in names: `conv`, `log`, `stat`, `report`.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Conv => "conv",
            Role::Log => "log",
            Role::Stat => "stat",
            Role::Report => "report",
        }
    }

    /// Who sends to it; `None`: nobody, conv has a source.
    pub const fn sender(self) -> Option<Role> {
        match self {
            Role::Conv => None,
            Role::Log | Role::Stat => Some(Role::Conv),
            Role::Report => Some(Role::Stat),
        }
    }

    /// The role's number in its page, 0..=3.
    pub const fn index(self) -> usize {
        match self {
            Role::Conv => 0,
            Role::Log => 1,
            Role::Stat => 2,
            Role::Report => 3,
        }
    }

    /// The name of its program: `ipc-conv` and so on.
    pub const fn program(self) -> &'static str {
        match self {
            Role::Conv => "ipc-conv",
            Role::Log => "ipc-log",
            Role::Stat => "ipc-stat",
            Role::Report => "ipc-report",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an instance has no names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamesError {
    /// The name has a wrong length or a wrong character.
    #[error("the instance name {0:?} is not allowed: use 1 to 32 of a-z A-Z 0-9 - _")]
    Instance(String),
    /// There is no directory for the state.
    #[error(
        "cannot tell where to keep the record: neither XDG_STATE_HOME nor HOME holds an absolute path; \
         set one of them"
    )]
    NoStateDir,
}

/// Says whether `name` can name an instance: 1 to 32 of `a-z A-Z 0-9 - _`.
pub fn check_instance(name: &str) -> Result<(), NamesError> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if (1..=INSTANCE_LEN_MAX).contains(&name.len()) && name.bytes().all(good) {
        Ok(())
    } else {
        Err(NamesError::Instance(name.to_owned()))
    }
}

/// Whose instances they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One user's: all objects belong to that user and are for nobody else.
    User,
    /// The machine's, started by its service manager: each role is a user of its own, and members of the group
    /// `ipc-pipeline` may read.
    System,
}

/// The group that may read what belongs to pipelines of the machine.
pub const GROUP: &str = "ipc-pipeline";

/// All names of one instance. Making this value makes nothing in the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    scope: Scope,
    instance: String,
    prefix: String,
    run_dir: PathBuf,
    state_dir: PathBuf,
}

impl Names {
    /// The names of a user's instance; without a `name` it is `u<uid>`.
    ///
    /// Reads XDG_RUNTIME_DIR, XDG_STATE_HOME and HOME; as the XDG rules say, a variable that is empty or
    /// relative counts as unset.
    pub fn for_user(name: Option<&str>) -> Result<Names, NamesError> {
        Names::for_user_with(name, rustix::process::getuid().as_raw(), |key| std::env::var_os(key))
    }

    fn for_user_with(
        name: Option<&str>,
        uid: u32,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Names, NamesError> {
        let instance = name.map_or_else(|| format!("u{uid}"), str::to_owned);
        check_instance(&instance)?;
        let directory = |key| variable(key).map(PathBuf::from).filter(|path| path.is_absolute());
        let run_base = match directory("XDG_RUNTIME_DIR") {
            Some(base) => base.join("ipc-pipeline"),
            None => PathBuf::from(format!("/tmp/ipc-pipeline-{uid}")),
        };
        let state_base = directory("XDG_STATE_HOME")
            .or_else(|| directory("HOME").map(|home| home.join(".local/state")))
            .ok_or(NamesError::NoStateDir)?;
        let folder = format!("@{instance}");
        Ok(Names {
            scope: Scope::User,
            prefix: format!("ipc-pipeline@{instance}"),
            run_dir: run_base.join(&folder),
            state_dir: state_base.join("ipc-pipeline").join(&folder),
            instance,
        })
    }

    /// The names of an instance of the machine; without a `name` the default one.
    pub fn for_system(name: Option<&str>) -> Result<Names, NamesError> {
        let (run, state) = (PathBuf::from("/run/ipc-pipeline"), PathBuf::from("/var/lib/ipc-pipeline"));
        let scope = Scope::System;
        let Some(name) = name else {
            let (instance, prefix) = ("system".to_owned(), "ipc-pipeline".to_owned());
            return Ok(Names { scope, instance, prefix, run_dir: run, state_dir: state });
        };
        check_instance(name)?;
        let folder = format!("@{name}");
        let (instance, prefix) = (name.to_owned(), format!("ipc-pipeline@{name}"));
        Ok(Names { scope, instance, prefix, run_dir: run.join(&folder), state_dir: state.join(&folder) })
    }

    /// Whose instance it is.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The mode of files and segments of the instance: others never have a right.
    pub fn mode(&self) -> u32 {
        match self.scope {
            Scope::User => 0o600,
            Scope::System => 0o640,
        }
    }

    /// The arguments that choose this instance on a command line.
    pub fn arguments(&self) -> String {
        match (self.scope, self.prefix.split_once('@')) {
            (Scope::User, _) => format!("--name {}", self.instance),
            (Scope::System, None) => "--system".to_owned(),
            (Scope::System, Some((_, name))) => format!("--system --name {name}"),
        }
    }

    /// The role that owns a segment of this name; `None` for a name that is none of ours.
    pub fn role_of(&self, segment: &str) -> Option<Role> {
        let object = segment.strip_prefix(&self.prefix)?.strip_prefix('.')?;
        match object {
            "spool" => Some(Role::Conv),
            "snapshot" => Some(Role::Stat),
            _ => Role::ALL.into_iter().find(|role| object.strip_prefix("page.") == Some(role.name())),
        }
    }

    /// The instance's name alone, for example `u1000`.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// What the name of each of its segments begins with, for example `ipc-pipeline@u1000`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where locks and manifest are; gone after a reboot.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// Where record and checkpoints are.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The segment name of the spool, without directory.
    pub fn spool(&self) -> String {
        self.segment_name("spool")
    }

    /// The segment name of a role's page, without directory.
    pub fn page(&self, role: Role) -> String {
        self.segment_name(&format!("page.{role}"))
    }

    /// The segment name of the snapshot register, without directory.
    pub fn snapshot(&self) -> String {
        self.segment_name("snapshot")
    }

    /// The POSIX message queue at which a role listens.
    pub fn queue(&self, role: Role) -> String {
        format!("/{}", self.segment_name(role.name()))
    }

    /// The FIFO at which a role listens.
    pub fn fifo(&self, role: Role) -> PathBuf {
        self.run_dir.join(format!("{role}.fifo"))
    }

    /// The directory in which a role makes its socket: the role's own.
    pub fn socket_dir(&self, role: Role) -> PathBuf {
        self.run_dir.join(role.name())
    }

    /// The socket at which a role listens.
    pub fn socket(&self, role: Role) -> PathBuf {
        self.socket_dir(role).join("socket")
    }

    /// The file that says which System V queue a role listens at.
    pub fn sysv(&self, role: Role) -> PathBuf {
        self.run_dir.join(format!("{role}.sysv"))
    }

    /// Who must own what belongs to a role: this user; for the machine the role's user, to whom the superuser has given the
    /// role's lock, in a directory where nobody else can make one.
    pub fn owner(&self, role: Role) -> Option<u32> {
        match self.scope {
            Scope::User => Some(rustix::process::geteuid().as_raw()),
            Scope::System => std::fs::symlink_metadata(self.lock(role)).ok().map(|meta| meta.uid()),
        }
    }

    /// The mode of what a role listens at: it reads, and who sends to it writes.
    pub fn inlet_mode(&self) -> u32 {
        match self.scope {
            Scope::User => 0o600,
            Scope::System => 0o620,
        }
    }

    /// The lock of a role: who holds it is that role.
    pub fn lock(&self, role: Role) -> PathBuf {
        self.run_dir.join(format!("{role}.lock"))
    }

    /// The lock of whoever creates or removes objects.
    pub fn objects_lock(&self) -> PathBuf {
        self.run_dir.join("objects.lock")
    }

    /// The list of every object that was made, one path a line.
    pub fn manifest(&self) -> PathBuf {
        self.run_dir.join("manifest")
    }

    /// The directory of the record.
    pub fn record_dir(&self) -> PathBuf {
        self.state_dir.join("log")
    }

    /// The directory of stat's checkpoints.
    pub fn stat_dir(&self) -> PathBuf {
        self.state_dir.join("stat")
    }

    fn segment_name(&self, object: &str) -> String {
        format!("{}.{object}", self.prefix)
    }
}

/// The path of a segment name in /dev/shm.
pub fn shm_path(segment: &str) -> PathBuf {
    Path::new("/dev/shm").join(segment)
}

/// Whether a path lies in the directory of some instance's record or checkpoints, as far as its words say.
pub fn is_of_a_record(path: &Path) -> bool {
    let words: Vec<_> = path.components().map(|word| word.as_os_str().to_string_lossy()).collect();
    words.windows(3).any(|place| match place {
        [project, name, part] => {
            project == "ipc-pipeline" && name.starts_with('@') && ["log", "stat"].contains(&part.as_ref())
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: Option<&str>, vars: &[(&str, &str)]) -> Result<Names, NamesError> {
        Names::for_user_with(name, 1000, |key| {
            vars.iter().find(|(k, _)| *k == key).map(|(_, v)| OsString::from(v))
        })
    }

    #[test]
    fn every_name_is_the_one_in_formats_md() {
        let n = names(Some("ecg"), &[("XDG_RUNTIME_DIR", "/run/user/1000"), ("HOME", "/home/a")]).unwrap();
        assert_eq!(n.instance(), "ecg");
        assert_eq!(n.prefix(), "ipc-pipeline@ecg");
        assert_eq!(n.spool(), "ipc-pipeline@ecg.spool");
        assert_eq!(shm_path(&n.spool()), Path::new("/dev/shm/ipc-pipeline@ecg.spool"));
        assert_eq!(n.snapshot(), "ipc-pipeline@ecg.snapshot");
        let pages = Role::ALL.map(|role| n.page(role));
        let wanted = ["conv", "log", "stat", "report"].map(|r| format!("ipc-pipeline@ecg.page.{r}"));
        assert_eq!(pages, wanted);
        assert_eq!(n.run_dir(), Path::new("/run/user/1000/ipc-pipeline/@ecg"));
        assert_eq!(n.lock(Role::Stat), Path::new("/run/user/1000/ipc-pipeline/@ecg/stat.lock"));
        assert_eq!(n.objects_lock(), Path::new("/run/user/1000/ipc-pipeline/@ecg/objects.lock"));
        assert_eq!(n.manifest(), Path::new("/run/user/1000/ipc-pipeline/@ecg/manifest"));
        assert_eq!(n.state_dir(), Path::new("/home/a/.local/state/ipc-pipeline/@ecg"));
        assert_eq!(n.record_dir(), Path::new("/home/a/.local/state/ipc-pipeline/@ecg/log"));
        assert_eq!(n.stat_dir(), Path::new("/home/a/.local/state/ipc-pipeline/@ecg/stat"));
    }

    #[test]
    fn the_machine_has_names_of_its_own() {
        let n = Names::for_system(None).unwrap();
        assert_eq!((n.prefix(), n.spool().as_str(), n.mode()), ("ipc-pipeline", "ipc-pipeline.spool", 0o640));
        assert_eq!(n.lock(Role::Conv), Path::new("/run/ipc-pipeline/conv.lock"));
        assert_eq!(n.record_dir(), Path::new("/var/lib/ipc-pipeline/log"));
        let n = Names::for_system(Some("ecg")).unwrap();
        assert_eq!((n.prefix(), n.instance()), ("ipc-pipeline@ecg", "ecg"));
        assert_eq!(n.lock(Role::Conv), Path::new("/run/ipc-pipeline/@ecg/conv.lock"));
        assert_eq!(n.stat_dir(), Path::new("/var/lib/ipc-pipeline/@ecg/stat"));
        assert!(Names::for_system(Some("a/b")).is_err());
    }

    #[test]
    fn a_segment_name_tells_its_role() {
        let n = Names::for_system(None).unwrap();
        let roles = [n.spool(), n.snapshot(), n.page(Role::Report)].map(|name| n.role_of(&name));
        assert_eq!(roles, [Some(Role::Conv), Some(Role::Stat), Some(Role::Report)]);
        for other in ["ipc-pipeline@ecg.spool", "ipc-pipeline.page.", "ipc-pipeline.spool.1", "x"] {
            assert_eq!(n.role_of(other), None, "{other}");
        }
    }

    #[test]
    fn arguments_choose_the_instance() {
        let system = |name| Names::for_system(name).unwrap().arguments();
        assert_eq!((system(None).as_str(), system(Some("a")).as_str()), ("--system", "--system --name a"));
        assert_eq!(names(Some("a"), &[("HOME", "/h")]).unwrap().arguments(), "--name a");
    }

    #[test]
    fn without_a_name_the_instance_is_the_user() {
        let n = names(None, &[("XDG_STATE_HOME", "/s")]).unwrap();
        assert_eq!(n.instance(), "u1000");
        assert_eq!(n.run_dir(), Path::new("/tmp/ipc-pipeline-1000/@u1000"));
        assert_eq!(n.state_dir(), Path::new("/s/ipc-pipeline/@u1000"));
    }

    #[test]
    fn empty_and_relative_variables_count_as_unset() {
        let vars = [("XDG_RUNTIME_DIR", "run"), ("XDG_STATE_HOME", ""), ("HOME", "/h")];
        let n = names(None, &vars).unwrap();
        assert_eq!(n.run_dir(), Path::new("/tmp/ipc-pipeline-1000/@u1000"));
        assert_eq!(n.state_dir(), Path::new("/h/.local/state/ipc-pipeline/@u1000"));
        assert_eq!(names(None, &[("HOME", "h")]), Err(NamesError::NoStateDir));
    }

    #[test]
    fn a_name_that_could_leave_its_place_is_refused() {
        let long = "x".repeat(33);
        for bad in ["", "a/b", "..", "a b", "a@b", "ä", "a\n", "a.b", &long] {
            assert_eq!(check_instance(bad), Err(NamesError::Instance(bad.to_owned())), "{bad:?}");
            assert!(names(Some(bad), &[("HOME", "/h")]).is_err());
        }
        for good in ["a", "A-9_z", &"x".repeat(32)] {
            assert_eq!(check_instance(good), Ok(()), "{good:?}");
        }
    }

    #[test]
    fn places_of_records_are_known() {
        let n = names(Some("ecg"), &[("HOME", "/home/a")]).unwrap();
        for own in [n.record_dir(), n.stat_dir()] {
            assert!(is_of_a_record(&own) && is_of_a_record(&own.join("./a.txt")));
        }
        for other in [n.state_dir().join("a.txt"), "/ipc-pipeline/log/a".into(), "@a/log/b".into()] {
            assert!(!is_of_a_record(&other), "{other:?}");
        }
    }

    #[test]
    fn roles_agree_with_their_numbers_and_programs() {
        for (index, role) in Role::ALL.into_iter().enumerate() {
            assert_eq!(role.index(), index);
            assert_eq!(role.program(), format!("ipc-{role}"));
        }
    }
}
