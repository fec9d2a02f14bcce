//! How long jobs and installs take, and how well the former are predicted.

use crate::random::Random;

use super::Job;

/// How the durations of jobs are spread. Seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Durations {
    /// Log-normal, between 20 and 600 s.
    LogNormal {
        /// Half of the jobs are shorter.
        median: f64,
        /// Deviation of the logarithm.
        sigma: f64,
    },
    /// Pareto: a heavy tail, cut off.
    Pareto {
        /// The least.
        least: f64,
        /// The smaller, the heavier the tail.
        exponent: f64,
        /// The greatest.
        cap: f64,
    },
    /// All alike.
    Fixed(f64),
}

impl Durations {
    fn draw(self, random: &mut Random) -> f64 {
        match self {
            Self::LogNormal { median, sigma } => random.log_normal(median, sigma).clamp(20.0, 600.0),
            Self::Pareto { least, exponent, cap } => random.pareto(least, exponent).min(cap),
            Self::Fixed(seconds) => seconds,
        }
    }

    /// The mean, from 200,000 draws of a fixed seed: part of what a load means, so it must never change.
    pub fn mean(self) -> f64 {
        const DRAWS: u32 = 200_000;
        let mut random = Random::new(99);
        (0..DRAWS).map(|_| self.draw(&mut random)).sum::<f64>() / f64::from(DRAWS)
    }

    /// Jobs with predictions off by a log-normal factor of this sigma and mean 1.
    ///
    /// The error is a function of the duration: the same jobs can be drawn with better or worse predictions.
    pub(super) fn jobs(self, random: &mut Random, count: usize, prediction_sigma: f64) -> Vec<Job> {
        let mut job = || {
            let duration_s = self.draw(random);
            let mut error = Random::new(duration_s.to_bits());
            let factor =
                (prediction_sigma * error.normal() - 0.5 * prediction_sigma * prediction_sigma).exp();
            Job { duration_s, predicted_s: duration_s * factor, poison: false }
        };
        (0..count).map(|_| job()).collect()
    }
}

/// How the times of installs are spread over apps. Seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Installs {
    /// All alike.
    Fixed(f64),
    /// Log-normal, between 10 and 180 s.
    LogNormal {
        /// Half of the apps install faster.
        median: f64,
        /// Deviation of the logarithm.
        sigma: f64,
    },
}

impl Installs {
    pub(super) fn draw(self, random: &mut Random) -> f64 {
        match self {
            Self::Fixed(seconds) => seconds,
            Self::LogNormal { median, sigma } => random.log_normal(median, sigma).clamp(10.0, 180.0),
        }
    }
}
