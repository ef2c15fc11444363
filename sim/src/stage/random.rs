//! Random numbers of a run: named streams, all drawn from one seed.
//!
//! Each stream is told apart by its host and its purpose, and has a state of its own: one more draw for one purpose changes
//! nothing for any other, and a new purpose changes nothing at all. Good for schedules, latencies and keys of simulated
//! sessions; not for secrets.

use std::collections::BTreeMap;
use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// One named stream of random numbers.
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream for `purpose` on `host` in the run with this `seed`, from its beginning.
    ///
    /// ChaCha8, keyed with four outputs of SplitMix64, which starts from the seed's own SplitMix64 output combined with
    /// FNV-1a 64 of `host`, a byte that UTF-8 never contains, and `purpose`. Stated because recorded seeds hang on it.
    pub fn new(seed: u64, host: &str, purpose: &str) -> Stream {
        let name = fnv1a(host.bytes().chain([0xff]).chain(purpose.bytes()));
        let mut mixer = SplitMix64(SplitMix64(seed).next() ^ name);
        let mut key = [0; 32];
        for word in key.chunks_exact_mut(8) {
            word.copy_from_slice(&mixer.next().to_le_bytes());
        }
        Stream(ChaCha8Rng::from_seed(key))
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// The next number below `bound`; zero if `bound` is zero. The bias is below `bound` / 2^64.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the upper half of 128 bits has 64")
    }
}

impl fmt::Debug for Stream {
    /// Not its state: whoever reads a trace should not be able to predict what comes next from it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

/// All streams of one host, each begun when it is first drawn from.
#[derive(Debug)]
pub struct Streams {
    seed: u64,
    host: &'static str,
    /// Purposes are written in the code, so there are as many as the code has.
    by_purpose: BTreeMap<&'static str, Stream>,
}

impl Streams {
    /// The streams of `host` in the run with this `seed`.
    pub fn new(seed: u64, host: &'static str) -> Streams {
        Streams { seed, host, by_purpose: BTreeMap::new() }
    }

    /// The next 64 random bits for `purpose`.
    pub fn draw(&mut self, purpose: &'static str) -> u64 {
        let Streams { seed, host, by_purpose } = self;
        by_purpose.entry(purpose).or_insert_with(|| Stream::new(*seed, host, purpose)).next_u64()
    }
}

/// FNV-1a, 64 bits: small, and the same on every machine and in every release, which std's hasher does not promise.
fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

/// Steele, Lea and Flood's SplitMix64: makes neighbouring seeds (1, 2, 3, ...) unrelated.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_and_the_mixer_are_the_published_ones() {
        assert_eq!(fnv1a("".bytes()), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("a".bytes()), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a("foobar".bytes()), 0x8594_4171_f739_67e8);
        let mut mixer = SplitMix64(1_234_567);
        assert_eq!([mixer.next(), mixer.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn one_more_draw_for_one_purpose_changes_nothing_for_another() {
        let mut plain = Streams::new(1, "pod");
        let mut greedy = Streams::new(1, "pod");
        greedy.draw("pacing");
        greedy.draw("pacing");
        assert_eq!(plain.draw("cancel key"), greedy.draw("cancel key"));
        assert_ne!(plain.draw("pacing"), greedy.draw("pacing"));
    }

    #[test]
    fn seed_host_and_purpose_each_tell_streams_apart() {
        let first = |seed, host, purpose| Stream::new(seed, host, purpose).next_u64();
        let base = first(1, "pod", "pacing");
        assert_eq!(base, first(1, "pod", "pacing"));
        assert_ne!(base, first(2, "pod", "pacing"));
        assert_ne!(base, first(1, "clients", "pacing"));
        assert_ne!(base, first(1, "pod", "latency"));
        assert_ne!(first(1, "ab", "c"), first(1, "a", "bc"));
    }

    #[test]
    fn below_stays_below_and_reaches_every_number() {
        let mut stream = Stream::new(7, "pod", "test");
        let mut seen = [false; 3];
        for _ in 0..100 {
            seen[usize::try_from(stream.below(3)).unwrap()] = true;
        }
        assert_eq!(seen, [true; 3]);
        assert_eq!(stream.below(0), 0);
    }
}
