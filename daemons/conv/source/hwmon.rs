//! The kernel's hardware monitoring: temperatures, voltages, fans, under /sys/class/hwmon.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;

use ipc_pipeline::decimal;

use super::poll::text_at;
use super::sensors::Class;

/// Values in degrees, volts, amperes, watts, joules, percent, hertz, or revolutions per minute.
pub struct Hwmon;

impl Class for Hwmon {
    const FOLDER: &'static str = "class/hwmon";
    const VALUES: &'static [&'static str] = &["_input", "_average"];

    fn read(dir: &OwnedFd, stem: &str, decimals: u8) -> Result<i32, String> {
        let text =
            text_at(dir, &format!("{stem}_input")).or_else(|_| text_at(dir, &format!("{stem}_average")));
        let text = text.map_err(|why| why.to_string())?;
        decimal::parse_rounded(text.trim(), decimals, power(stem)).map_err(|why| why.to_string())
    }
}

/// The kernel counts in so small units: 10^-3 or 10^-6 of that of the value (Documentation/hwmon/sysfs-interface).
fn power(stem: &str) -> i8 {
    match stem.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "temp" | "in" | "curr" | "humidity" => -3,
        "power" | "energy" => -6,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sensors::testing::{device, read, reader};
    use super::*;
    use std::fs;
    use std::path::Path;

    const CPU: &[(&str, &str)] = &[
        ("name", "coretemp"),
        ("temp1_input", "45499"),
        ("temp1_label", "Package id 0"),
        ("temp2_input", "-250"),
    ];

    fn tree(root: &Path) {
        device(
            root,
            "class/hwmon/hwmon0",
            &[("name", "acpitz"), ("temp1_input", "27800"), ("temp1_label", "Package id 0")],
        );
        device(root, "class/hwmon/hwmon1", CPU);
        let fans = [
            ("name", "nct6779"),
            ("fan1_input", "1204"),
            ("in0_input", "1016"),
            ("power1_average", "2500000"),
        ];
        device(root, "class/hwmon/hwmon2", &fans);
    }

    #[test]
    fn values_in_their_units() {
        let root = tempfile::tempdir().unwrap();
        tree(root.path());
        let sensors =
            ["coretemp/Package id 0", "coretemp/temp2", "nct6779/fan1", "nct6779/in0", "nct6779/power1"];
        let mut hwmon = reader::<Hwmon>(root.path(), &sensors, &[1, 3, 0, 3, 2]);
        assert_eq!(read(&mut hwmon), Ok(vec![455, -250, 1204, 1016, 250]));
        device(root.path(), "class/hwmon/hwmon1", &[("temp1_input", "45449")]);
        assert_eq!(read(&mut hwmon).unwrap()[0], 454);
    }

    #[test]
    fn a_sensor_is_found_again_under_another_number() {
        let root = tempfile::tempdir().unwrap();
        tree(root.path());
        let at = |n| root.path().join(format!("class/hwmon/hwmon{n}"));
        let mut hwmon = reader::<Hwmon>(root.path(), &["coretemp/Package id 0"], &[3]);
        assert_eq!(read(&mut hwmon), Ok(vec![45_499]));
        // It vanishes; then another chip gets its number, which has a temp1 too.
        fs::rename(at(1), root.path().join("away")).unwrap();
        let text = read(&mut hwmon).unwrap_err();
        assert!(
            text.contains("there is no sensor coretemp/Package id 0") && text.contains("acpitz/Package id 0"),
            "{text}"
        );
        fs::rename(at(0), at(1)).unwrap();
        assert_eq!(read(&mut hwmon).unwrap_err(), text);
        fs::rename(root.path().join("away"), at(7)).unwrap();
        assert_eq!(read(&mut hwmon), Ok(vec![45_499]));
        // Both change places in one moment.
        fs::rename(at(1), at(0)).unwrap();
        fs::rename(at(7), at(1)).unwrap();
        fs::rename(at(0), at(7)).unwrap();
        assert_eq!(read(&mut hwmon), Ok(vec![45_499]));
    }

    #[test]
    fn two_of_one_name_need_their_device() {
        let root = tempfile::tempdir().unwrap();
        for (n, device_name) in [(0, "0000:01:00.0"), (1, "0000:02:00.0")] {
            let dir = format!("class/hwmon/hwmon{n}");
            device(root.path(), &dir, &[("name", "nvme"), ("temp1_input", &format!("{n}000"))]);
            let real = root.path().join("devices").join(device_name);
            fs::create_dir_all(&real).unwrap();
            std::os::unix::fs::symlink(real, root.path().join(dir).join("device")).unwrap();
        }
        let text = read(&mut reader::<Hwmon>(root.path(), &["nvme/temp1"], &[0])).unwrap_err();
        assert!(text.contains("2 sensors") && text.contains("nvme@0000:02:00.0/temp1"), "{text}");
        let mut second = reader::<Hwmon>(root.path(), &["nvme@0000:02:00.0/temp1"], &[0]);
        assert_eq!(read(&mut second), Ok(vec![1]));
    }

    #[test]
    fn a_tree_that_is_not_there_is_no_end() {
        let root = tempfile::tempdir().unwrap();
        let mut hwmon = reader::<Hwmon>(root.path(), &["coretemp/temp2"], &[2]);
        assert!(read(&mut hwmon).unwrap_err().contains("holds none at all"));
        tree(root.path());
        assert_eq!(read(&mut hwmon), Ok(vec![-25]));
        device(root.path(), "class/hwmon/hwmon1", &[("temp2_input", "n/a")]);
        assert!(read(&mut hwmon).unwrap_err().contains("this is no decimal number"));
    }
}
