//! Sensors in the kernel's tree of devices, by names that stay: numbers move when something is plugged in again.
//!
//! A sensor is found by the name of its chip and by its label or channel, and at each reading both are looked at again
//! in the same directory that the value is read from: what has moved is found again, and never taken for another one.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipc_pipeline::config::{SensorName, Sensors};
use rustix::fs::{Mode, OFlags};

use super::poll::text_at;
use super::{Source, SourceError, Supply};

/// While a sensor is gone the tree is searched so often.
const SEARCH: Duration = Duration::from_millis(200);
/// So many sensors that are there are said when one is not.
const SAID_MAX: usize = 12;

/// What differs between the kernel's subsystems.
pub trait Class {
    /// Where its devices are, below the root.
    const FOLDER: &'static str;
    /// Ends of the names of files that hold a value, the better ones first.
    const VALUES: &'static [&'static str];

    /// The code of the channel that is named `stem` in this directory; else why there is none.
    fn read(dir: &OwnedFd, stem: &str, decimals: u8) -> Result<i32, String>;
}

/// Reads its sensors anew for each row.
pub struct SensorReader<C> {
    root: PathBuf,
    sensors: Vec<Sensor>,
    class: PhantomData<C>,
}

/// One sensor, wherever it may be.
struct Sensor {
    name: SensorName,
    decimals: u8,
    place: Option<Place>,
    /// When it was last looked for in vain, and what was found instead.
    missing: Option<(Instant, String)>,
}

/// Where a sensor was when it was last found.
struct Place {
    dir: PathBuf,
    /// The file's name without its end: `temp1`, `in_voltage0`.
    stem: String,
}

impl<C: Class> SensorReader<C> {
    /// None of the sensors needs to be there yet.
    pub fn new(sensors: &Sensors, decimals: &[u8]) -> SensorReader<C> {
        let sensor = |(name, decimals): (&SensorName, &u8)| Sensor {
            name: name.clone(),
            decimals: *decimals,
            place: None,
            missing: None,
        };
        let all = sensors.sensors.iter().zip(decimals).map(sensor).collect();
        SensorReader { root: sensors.root.clone(), sensors: all, class: PhantomData }
    }
}

impl Sensor {
    /// Its reading now; else why there is none, in the same words until it is back.
    fn read<C: Class>(&mut self, root: &Path) -> Result<i32, String> {
        if let Some(Ok(code)) = self.place.as_ref().map(|place| self.read_at::<C>(place)) {
            return Ok(code);
        }
        self.place = None;
        if let Some((_, why)) = self.missing.as_ref().filter(|(at, _)| at.elapsed() < SEARCH) {
            return Err(why.clone());
        }
        let found = find::<C>(&root.join(C::FOLDER), &self.name);
        match found.and_then(|place| Ok((self.read_at::<C>(&place)?, place))) {
            Ok((code, place)) => {
                (self.place, self.missing) = (Some(place), None);
                Ok(code)
            }
            Err(why) => {
                self.missing = Some((Instant::now(), why.clone()));
                Err(why)
            }
        }
    }

    /// Reads if the place is still that of this sensor.
    fn read_at<C: Class>(&self, place: &Place) -> Result<i32, String> {
        let at = |why: String| format!("cannot read sensor {} in {}: {why}", self.name, place.dir.display());
        let dir = open(&place.dir).map_err(|why| at(why.to_string()))?;
        if !is_chip(&dir, &place.dir, &self.name) || !is_label(&dir, &place.stem, &self.name.label) {
            return Err(at("another one is there now".into()));
        }
        C::read(&dir, &place.stem, self.decimals).map_err(at)
    }
}

impl<C: Class> Source for SensorReader<C> {
    fn seek(&mut self, _: u64) -> Result<(), SourceError> {
        Ok(()) // what is there now is the next row
    }

    fn fill(&mut self, out: &mut [i32]) -> Result<Supply, SourceError> {
        for (sensor, slot) in self.sensors.iter_mut().zip(out) {
            match sensor.read::<C>(&self.root) {
                Ok(code) => *slot = code,
                Err(why) => return Ok(Supply::Unread(why)),
            }
        }
        Ok(Supply::Rows(1))
    }
}

fn open(dir: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn is_chip(dir: &OwnedFd, path: &Path, sensor: &SensorName) -> bool {
    let name = text_at(dir, "name").unwrap_or_default();
    name.trim() == sensor.chip && sensor.device.as_ref().is_none_or(|device| device_of(path) == *device)
}

fn is_label(dir: &OwnedFd, stem: &str, label: &str) -> bool {
    stem == label || text_at(dir, &format!("{stem}_label")).is_ok_and(|text| text.trim() == label)
}

/// The last name of the device that a directory belongs to: `0000:01:00.0`. In hwmon the link `device` leads there,
/// in iio it is the folder that holds the directory.
fn device_of(path: &Path) -> String {
    let device = fs::canonicalize(path.join("device"));
    let device =
        device.or_else(|_| fs::canonicalize(path).map(|p| p.parent().map(Path::to_owned).unwrap_or(p)));
    let name = device.ok().and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
    name.unwrap_or_default()
}

/// Where the sensor is; else what is there instead.
fn find<C: Class>(folder: &Path, sensor: &SensorName) -> Result<Place, String> {
    let (mut places, mut others) = (Vec::new(), Vec::new());
    for path in list(folder) {
        let Ok(dir) = open(&path) else { continue };
        let chip = text_at(&dir, "name").unwrap_or_default().trim().to_owned();
        for stem in stems::<C>(&path) {
            if is_chip(&dir, &path, sensor) && is_label(&dir, &stem, &sensor.label) {
                places.push(Place { dir: path.clone(), stem });
            } else if others.len() <= SAID_MAX {
                let label = text_at(&dir, &format!("{stem}_label"));
                let label = label.map_or(stem, |text| text.trim().to_owned());
                others.push(format!("{chip}/{label}"));
            }
        }
    }
    let folder = folder.display();
    match (places.len(), places.pop()) {
        (1, Some(place)) => Ok(place),
        (0, _) if others.is_empty() => {
            Err(format!("there is no sensor {sensor}: {folder} holds none at all"))
        }
        (0, _) => {
            let more = if others.len() > SAID_MAX { " and others" } else { "" };
            others.truncate(SAID_MAX);
            Err(format!("there is no sensor {sensor} in {folder}, but {}{more}", others.join(", ")))
        }
        (n, place) => {
            let device = place.map(|place| device_of(&place.dir)).unwrap_or_default();
            let SensorName { chip, label, .. } = sensor;
            Err(format!(
                "{n} sensors in {folder} are called {sensor}: name the device too, like {chip}@{device}/{label}"
            ))
        }
    }
}

/// What a folder holds, by name; nothing if it is not there.
fn list(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    all.sort();
    all
}

/// The channels of a device, each once.
fn stems<C: Class>(dir: &Path) -> Vec<String> {
    let names = list(dir).into_iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let stem = |name: String| C::VALUES.iter().find_map(|end| name.strip_suffix(end).map(str::to_owned));
    let mut stems: Vec<String> = names.filter_map(stem).collect();
    stems.sort();
    stems.dedup();
    stems
}

#[cfg(test)]
pub mod testing {
    //! A tree of devices like the kernel's, made by a test.

    use super::*;

    /// Writes files into the directory of a device: names and texts.
    pub fn device(root: &Path, dir: &str, files: &[(&str, &str)]) {
        let dir = root.join(dir);
        fs::create_dir_all(&dir).unwrap();
        files.iter().for_each(|(name, text)| fs::write(dir.join(name), format!("{text}\n")).unwrap());
    }

    /// A reader of these sensors below `root`.
    pub fn reader<C: Class>(root: &Path, sensors: &[&str], decimals: &[u8]) -> SensorReader<C> {
        let sensors = sensors.iter().map(|text| SensorName::read(text).unwrap()).collect();
        SensorReader::new(&Sensors { sensors, root: root.into() }, decimals)
    }

    /// The next row, or why there is none. Does not wait to search again.
    pub fn read<C: Class>(reader: &mut SensorReader<C>) -> Result<Vec<i32>, String> {
        let n = reader.sensors.len();
        let mut out = vec![0; 3 * n];
        reader.sensors.iter_mut().for_each(|sensor| sensor.missing = None);
        match reader.fill(&mut out).unwrap() {
            Supply::Rows(1) => Ok(out[..n].to_vec()),
            Supply::Unread(text) => Err(text),
            other => panic!("{other:?}"),
        }
    }
}
