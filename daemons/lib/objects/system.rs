//! What is special about the objects of the machine: the superuser makes them, and each belongs to its role's user.
#![forbid(unsafe_code)]

use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

use nix::unistd::{Group, User};

use super::{ObjectsError, io_error};
use crate::carrier::Owner;
use crate::names::{GROUP, Names, Role, Scope};

/// To whom objects are given.
pub struct Owners {
    /// By number of the role; `None`: to nobody, they stay this user's.
    users: Option<[u32; 4]>,
    group: u32,
}

impl Owners {
    /// Of this instance.
    ///
    /// # Errors
    /// For the machine it takes the superuser, and the users and the group that the package makes.
    pub fn of(names: &Names) -> Result<Owners, ObjectsError> {
        if names.scope() == Scope::User {
            return Ok(Owners { users: None, group: 0 });
        }
        if !rustix::process::geteuid().is_root() {
            return Err(ObjectsError::NotRoot);
        }
        let mut users = [0; 4];
        for (uid, role) in users.iter_mut().zip(Role::ALL) {
            *uid = user(&format!("_{}", role.program()))?;
        }
        Ok(Owners { users: Some(users), group: group(GROUP)? })
    }

    /// Gives an object to its role.
    pub fn give(&self, path: &Path, role: Role) -> io::Result<()> {
        match self.user(role) {
            Some(user) => std::os::unix::fs::lchown(path, Some(user), Some(self.group)),
            None => Ok(()),
        }
    }

    /// To whom what a role listens at is given: its user, and the group of who sends to it.
    ///
    /// # Errors
    /// The package's group of the sender is missing.
    pub fn of_inlet(&self, role: Role) -> Result<Option<Owner>, ObjectsError> {
        let (Some(user), Some(sender)) = (self.user(role), role.sender()) else { return Ok(None) };
        Ok(Some(Owner { user, group: group(&format!("_{}", sender.program()))? }))
    }

    /// Is this the role's, as it should be?
    pub fn owns(&self, role: Role, found: &Metadata) -> bool {
        self.user(role).is_none_or(|user| found.uid() == user && found.mode() & 0o037 == 0)
    }

    fn user(&self, role: Role) -> Option<u32> {
        self.users.and_then(|users| users.get(role.index()).copied())
    }
}

fn user(name: &str) -> Result<u32, ObjectsError> {
    let found = User::from_name(name).ok().flatten();
    found.map(|user| user.uid.as_raw()).ok_or_else(|| unknown("user", name))
}

fn group(name: &str) -> Result<u32, ObjectsError> {
    let found = Group::from_name(name).ok().flatten();
    found.map(|group| group.gid.as_raw()).ok_or_else(|| unknown("group", name))
}

fn unknown(what: &'static str, name: &str) -> ObjectsError {
    ObjectsError::Unknown { what, name: name.to_owned() }
}

/// The run and state directories: the superuser makes them, all others only look that nobody but it can change them.
pub fn make_directories(names: &Names) -> Result<(), ObjectsError> {
    let is_root = rustix::process::geteuid().is_root();
    for dir in [names.run_dir(), names.state_dir()] {
        let (base, _) = dir.to_str().and_then(|text| text.split_once("/@")).unwrap_or_default();
        for dir in [Path::new(base), dir].into_iter().filter(|dir| dir.is_absolute()) {
            if is_root {
                make(dir)?;
            }
            let meta = std::fs::symlink_metadata(dir).ok();
            if !meta.is_some_and(|meta| meta.is_dir() && meta.uid() == 0 && meta.mode() & 0o022 == 0) {
                return Err(ObjectsError::NotRoots { path: dir.to_owned() });
            }
        }
    }
    Ok(())
}

/// Mode 0750, for the group. What is there and right stays as it is: an administrator may have opened it further.
fn make(dir: &Path) -> Result<(), ObjectsError> {
    match DirBuilder::new().mode(0o750).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made
            .and_then(|()| chown(dir, Some(0), Some(group(GROUP).map_err(io::Error::other)?)))
            .and_then(|()| std::fs::set_permissions(dir, PermissionsExt::from_mode(0o750)))
            .map_err(io_error("make the directory", dir)),
    }
}
