//! A few blind mutations, so that the ordinary test looks a little beyond the corpus.

/// A mutation of `bytes`, the same for the same seed: one to four edits at drawn places.
#[must_use]
pub fn mutate(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed ^ (bytes.len() as u64) << 32);
    let mut out = bytes.to_vec();
    for _ in 0..random.usize(1..=4) {
        if out.is_empty() {
            out.push(random.u8(..));
            continue;
        }
        let at = random.usize(..out.len());
        match random.u8(..8) {
            0 => out[at] ^= 1 << random.u8(..8),
            1 => {
                out[at] =
                    random.choice([0x00, 0xff, 0x7f, 0x80, b'"', b'\t', b'\n', b'\\']).expect("not empty")
            }
            2 => out[at] = out[at].wrapping_add(random.choice([1, 0xff]).expect("not empty")),
            3 => out.truncate(at),
            4 => out.insert(at, random.u8(..)),
            5 => drop(out.remove(at)),
            6 => {
                let end = (at + random.usize(1..=16)).min(out.len());
                let piece = out[at..end].to_vec();
                let to = random.usize(..=out.len() - piece.len());
                out[to..to + piece.len()].copy_from_slice(&piece);
            }
            _ => {
                let end = (at + random.usize(1..=8)).min(out.len());
                out[at..end].fill(random.choice([0, 0xff]).expect("not empty"));
            }
        }
    }
    out
}
