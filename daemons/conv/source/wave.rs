//! Computed waves, as a converter would see them: sine, square, triangle, sawtooth, noise.
//!
//! Integers only, so that the same row has the same samples on every machine and in every life.
#![forbid(unsafe_code)]

use ipc_pipeline::config::{Shape, TURN, WaveConfig};

use super::{Source, SourceError, Supply};

/// 1 in fixed point: 60 bits behind the point.
const ONE: i64 = 1 << 60;
/// Half of pi in fixed point.
const HALF_PI: i64 = 1_811_004_864_519_280_711;

/// Row i is a function of i, of the wave and of the grid's period alone.
pub struct Wave {
    wave: WaveConfig,
    /// Part of a turn from one row to the next, in units of 1/[`TURN`].
    step: u128,
    channels: u64,
    row: u64,
}

impl Wave {
    /// `period_ps` is the time from one row to the next.
    pub fn new(wave: &WaveConfig, period_ps: u64, channels: usize) -> Wave {
        let step = u128::from(period_ps) * u128::from(wave.frequency_mhz) % TURN;
        Wave { wave: wave.clone(), step, channels: channels.max(1) as u64, row: 0 }
    }

    /// Where in its turn a channel is in the present row; 2^64 is a whole turn.
    fn phase(&self, channel: u64) -> u64 {
        // Exact for each row, so that nothing drifts: row mod TURN and step are below 2^50.
        let turned = u128::from(self.row) % TURN * self.step % TURN;
        let ahead = u128::from(channel * u64::from(self.wave.phase) % 360);
        (((turned << 64) / TURN) as u64).wrapping_add(((ahead << 64) / 360) as u64)
    }

    fn sample(&self, channel: u64) -> i32 {
        let amplitude = self.wave.amplitude;
        let unit = || match self.wave.shape {
            Shape::Square => square(self.phase(channel)),
            Shape::Triangle => triangle(self.phase(channel)),
            Shape::Sawtooth => sawtooth(self.phase(channel)),
            _ => sine(self.phase(channel)),
        };
        let code = match self.wave.shape {
            Shape::Noise => self.noise(channel).into(),
            _ => rounded(i128::from(unit()) * i128::from(amplitude)),
        };
        let half = 1i64 << (self.wave.bits.clamp(2, 32) - 1);
        code.clamp(-half, half - 1) as i32
    }

    fn noise(&self, channel: u64) -> i32 {
        // As in the random source: a generator of its own for each position.
        let index = self.row.wrapping_mul(self.channels).wrapping_add(channel);
        let seed = index.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        fastrand::Rng::with_seed(seed).i32(-self.wave.amplitude..=self.wave.amplitude)
    }
}

impl Source for Wave {
    fn seek(&mut self, row: u64) -> Result<(), SourceError> {
        self.row = row;
        Ok(())
    }

    fn fill(&mut self, out: &mut [i32]) -> Result<Supply, SourceError> {
        let channels = self.channels as usize;
        for row in out.chunks_exact_mut(channels) {
            for (channel, slot) in (0..).zip(row) {
                *slot = self.sample(channel);
            }
            self.row = self.row.wrapping_add(1);
        }
        Ok(Supply::Rows(out.len() / channels))
    }
}

/// The nearest integer of a number in fixed point; halves go away from zero.
fn rounded(fixed: i128) -> i64 {
    let magnitude = (fixed.unsigned_abs() + (ONE as u128 / 2)) >> 60;
    (magnitude as i64) * fixed.signum() as i64
}

fn square(phase: u64) -> i64 {
    if phase < 1 << 63 { ONE } else { -ONE }
}

/// From 0 up to almost 1, then from -1 up to 0.
fn sawtooth(phase: u64) -> i64 {
    phase as i64 >> 3
}

/// From 0 up to 1, down to -1, up to 0.
fn triangle(phase: u64) -> i64 {
    folded(phase)
}

/// The quarter that a phase lies in, folded onto the first one: -1..=1 quarters in fixed point.
fn folded(phase: u64) -> i64 {
    let half = phase as i64 >> 2; // a quarter turn is ONE, so that this is -2 ..< 2
    match half {
        h if h > ONE => 2 * ONE - h,
        h if h < -ONE => -2 * ONE - h,
        h => h,
    }
}

/// The sine by its series; what is left out is below 2^-59.
fn sine(phase: u64) -> i64 {
    let product = |a: i64, b: i64| ((i128::from(a) * i128::from(b)) >> 60) as i64;
    let x = product(folded(phase), HALF_PI);
    let square = product(x, x);
    // 1 - x^2/(2*3) * (1 - x^2/(4*5) * (1 - ...)), from inside out
    let series = (1..=11).rev().fold(ONE, |inner, k| ONE - product(square, inner) / (2 * k * (2 * k + 1)));
    product(x, series).clamp(-ONE, ONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(shape: Shape, amplitude: i32, frequency_mhz: u64) -> WaveConfig {
        WaveConfig { shape, amplitude, frequency_mhz, bits: 32, phase: 0 }
    }

    /// Rows from `row` on, 1 ms apart.
    fn rows(wave: &WaveConfig, channels: usize, row: u64, n: usize) -> Vec<i32> {
        let mut source = Wave::new(wave, 1_000_000_000, channels);
        source.seek(row).unwrap();
        let mut out = vec![0; n * channels];
        assert_eq!(source.fill(&mut out).unwrap(), Supply::Rows(n));
        out
    }

    #[test]
    fn each_shape_at_eight_points_of_a_turn() {
        let at = |shape| rows(&wave(shape, 1000, 125_000), 1, 0, 9); // 8 ms a turn
        assert_eq!(at(Shape::Sine), [0, 707, 1000, 707, 0, -707, -1000, -707, 0]);
        assert_eq!(at(Shape::Square), [1000, 1000, 1000, 1000, -1000, -1000, -1000, -1000, 1000]);
        assert_eq!(at(Shape::Triangle), [0, 500, 1000, 500, 0, -500, -1000, -500, 0]);
        assert_eq!(at(Shape::Sawtooth), [0, 250, 500, 750, -1000, -750, -500, -250, 0]);
        assert_eq!(rounded(i128::from(ONE) / 2), 1);
        assert_eq!(rounded(i128::from(-ONE) / 2), -1);
    }

    #[test]
    fn the_sine_is_right_to_the_last_bit_of_a_code() {
        let all = rows(&wave(Shape::Sine, i32::MAX, 1_000), 1, 0, 1000);
        for (i, code) in all.iter().enumerate() {
            let wanted = (i as f64 / 1000.0 * std::f64::consts::TAU).sin() * f64::from(i32::MAX);
            assert!((f64::from(*code) - wanted).abs() < 0.501, "row {i}: {code}, {wanted}");
        }
    }

    #[test]
    fn a_phase_never_drifts() {
        // 7 mHz on a grid of 1 ms: after 10^15 rows exactly 7 * 10^12 / 1000 turns have passed.
        let slow = wave(Shape::Sine, i32::MAX, 7);
        assert_eq!(rows(&slow, 1, 1_000_000_000_000_000, 500), rows(&slow, 1, 0, 500));
        let odd = wave(Shape::Triangle, 1000, 333_333);
        let all = rows(&odd, 1, 0, 3000);
        assert_eq!(rows(&odd, 1, 1234, 100), all[1234..1334]);
        rows(&odd, 3, u64::MAX - 1, 4);
    }

    #[test]
    fn channels_are_ahead_by_the_phase() {
        let three = WaveConfig { phase: 120, ..wave(Shape::Sine, 1_000_000, 50_000) };
        for row in rows(&three, 3, 0, 40).chunks(3) {
            assert!(row.iter().sum::<i32>().abs() <= 1, "{row:?}");
        }
        let two = WaveConfig { phase: 90, ..wave(Shape::Sine, 1000, 50_000) };
        assert_eq!(rows(&two, 2, 0, 1), [0, 1000]);
    }

    #[test]
    fn a_converter_has_only_so_many_bits() {
        let clipped = WaveConfig { bits: 8, ..wave(Shape::Sine, 1000, 50_000) };
        let all = rows(&clipped, 1, 0, 20);
        assert_eq!((all.iter().min(), all.iter().max()), (Some(&-128), Some(&127)));
    }

    #[test]
    fn noise_is_uniform_and_the_same_again() {
        let noise = wave(Shape::Noise, 5, 1000);
        let all = rows(&noise, 2, 0, 11_000);
        assert_eq!(rows(&noise, 2, 100, 50), all[200..300]);
        for value in -5..=5 {
            let n = all.iter().filter(|v| **v == value).count();
            assert!((1_700..2_300).contains(&n), "{value}: {n} of 22000");
        }
    }
}
