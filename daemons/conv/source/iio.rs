//! The kernel's industrial I/O: converters and sensors under /sys/bus/iio/devices.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;

use ipc_pipeline::decimal::{self, Decimal};

use super::poll::text_at;
use super::sensors::Class;

/// Values in the units of the kernel's interface: (raw + offset) * scale, all three as the kernel gives them.
pub struct Iio;

impl Class for Iio {
    const FOLDER: &'static str = "bus/iio/devices";
    const VALUES: &'static [&'static str] = &["_input", "_raw"];

    fn read(dir: &OwnedFd, stem: &str, decimals: u8) -> Result<i32, String> {
        let text = match text_at(dir, &format!("{stem}_input")) {
            Ok(text) => text.trim().to_owned(),
            Err(_) => physical(
                number(dir, &format!("{stem}_raw"))?,
                attribute(dir, stem, "offset")?.unwrap_or(Decimal::ZERO),
                attribute(dir, stem, "scale")?.unwrap_or(Decimal::ONE),
            )
            .ok_or("its value has too many digits")?,
        };
        decimal::parse_rounded(&text, decimals, 0).map_err(|why| why.to_string())
    }
}

fn number(dir: &OwnedFd, name: &str) -> Result<Decimal, String> {
    let text = text_at(dir, name).map_err(|why| format!("{name}: {why}"))?;
    Decimal::read(text.trim()).ok_or_else(|| format!("{name} holds no number"))
}

/// An attribute of the channel itself, or else one that all channels of its type share.
fn attribute(dir: &OwnedFd, stem: &str, what: &str) -> Result<Option<Decimal>, String> {
    for name in [stem.to_owned(), without_numbers(stem), without_modifier(stem)] {
        let name = format!("{name}_{what}");
        if text_at(dir, &name).is_ok() {
            return number(dir, &name).map(Some);
        }
    }
    Ok(None)
}

/// `in_voltage0` is one of `in_voltage`, `in_voltage0-voltage1` of `in_voltage-voltage`.
fn without_numbers(stem: &str) -> String {
    stem.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// `in_accel_x` is one of `in_accel`.
fn without_modifier(stem: &str) -> String {
    stem.rsplit_once('_').map_or(stem, |(front, _)| front).to_owned()
}

/// (raw + offset) * scale, exactly, as text; `None` where even 128 bits are not enough.
fn physical(raw: Decimal, offset: Decimal, scale: Decimal) -> Option<String> {
    let places = raw.places.max(offset.places);
    let aligned = |d: Decimal| d.digits.checked_mul(10i128.checked_pow((places - d.places).into())?);
    let sum = aligned(raw)?.checked_add(aligned(offset)?)?;
    Some(decimal::format_scaled(sum.checked_mul(scale.digits)?, places + scale.places))
}

#[cfg(test)]
mod tests {
    use super::super::sensors::testing::{device, read, reader};
    use super::*;
    use std::fs;

    const ADC: &str = "bus/iio/devices/iio:device0";

    #[test]
    fn raw_offset_and_scale_make_the_value() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            ("name", "ads1015"),
            ("in_voltage0_raw", "1000"),
            ("in_voltage_scale", "0.439453125"),
            ("in_voltage1_raw", "-3"),
            ("in_voltage1_scale", "3"),
            ("in_voltage2-voltage3_raw", "7"),
            ("in_voltage-voltage_scale", "0.5"),
            ("in_temp_raw", "600"),
            ("in_temp_offset", "-273.15"),
            ("in_temp_scale", "100.000000000"),
            ("in_accel_x_raw", "2"),
            ("in_accel_scale", "0.000598"),
            ("in_illuminance_input", "12.3456"),
            ("in_count0_raw", "42"),
        ];
        device(root.path(), ADC, &files);
        let names = [
            "in_voltage0",
            "in_voltage1",
            "in_voltage2-voltage3",
            "in_temp",
            "in_accel_x",
            "in_illuminance",
            "in_count0",
        ];
        let sensors = names.map(|name| format!("ads1015/{name}"));
        let sensors: Vec<&str> = sensors.iter().map(String::as_str).collect();
        let mut iio = reader::<Iio>(root.path(), &sensors, &[3, 0, 1, 0, 6, 2, 0]);
        assert_eq!(read(&mut iio), Ok(vec![439_453, -9, 35, 32_685, 1196, 1235, 42]));
        // Another range of the converter is in force with the next reading.
        device(root.path(), ADC, &[("in_voltage_scale", "2")]);
        assert_eq!(read(&mut iio).unwrap()[0], 2_000_000);
        device(root.path(), ADC, &[("in_voltage_scale", "wide")]);
        assert!(read(&mut iio).unwrap_err().contains("in_voltage_scale holds no number"));
    }

    #[test]
    fn a_device_is_found_again_by_name_or_label() {
        let root = tempfile::tempdir().unwrap();
        device(
            root.path(),
            ADC,
            &[("name", "mcp3008"), ("in_voltage0_raw", "5"), ("in_voltage0_label", "battery")],
        );
        let mut iio = reader::<Iio>(root.path(), &["mcp3008/battery"], &[0]);
        assert_eq!(read(&mut iio), Ok(vec![5]));
        let at = |n| root.path().join(format!("bus/iio/devices/iio:device{n}"));
        fs::rename(at(0), at(3)).unwrap();
        assert_eq!(read(&mut iio), Ok(vec![5]));
        fs::remove_dir_all(at(3)).unwrap();
        assert!(read(&mut iio).is_err());
    }

    #[test]
    fn what_does_not_fit_is_no_value() {
        let d = |text| Decimal::read(text).unwrap();
        assert_eq!(physical(d("7"), d("-0.5"), d("0.1")).unwrap(), "0.65");
        assert_eq!(physical(d("999999999999999999999"), d("0"), d("999999999999999999999")), None);
        assert_eq!(physical(d("999999999999999999999"), d("0.000000000000000000001"), d("1")), None);
    }
}
