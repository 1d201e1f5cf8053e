//! Lines of a stream, numbered, and never longer in memory than a bound.
//!
//! A line ends at a line feed or at the end of the input; the last one needs no line feed, and an input that ends in
//! one has no empty line behind it. A line beyond the bound is read to its end but not kept, so that one endless line
//! (a binary file by mistake) costs no memory and the lines behind it keep their numbers.

use std::io::{self, BufRead};

/// Most bytes of a line's memory that is kept for the next one.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Reads lines one at a time.
#[derive(Debug)]
pub(super) struct Lines<R> {
    source: R,
    line: Vec<u8>,
    number: u64,
    line_bytes_max: usize,
}

/// What [`Lines::next`] met.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A line without its line feed.
    Whole(&'a [u8]),
    /// A line longer than the bound, with its length.
    TooLong(u64),
}

impl<R: BufRead> Lines<R> {
    /// Lines of `source` of at most `line_bytes_max` bytes, the line feed not counted.
    pub(super) fn new(source: R, line_bytes_max: usize) -> Self {
        Self { source, line: Vec::new(), number: 0, line_bytes_max }
    }

    /// The number of the line that [`Lines::next`] answered last, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Reads the next line; `None` at the end of the input.
    ///
    /// # Errors
    /// What the source answers. Reading may be tried again, but the line that was begun is lost.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        self.line.shrink_to(KEPT_BYTES_MAX);
        let mut length: u64 = 0;
        let mut ended = false;
        while !ended {
            let available = match self.source.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if available.is_empty() {
                if length == 0 {
                    return Ok(None);
                }
                break;
            }
            let feed = memchr::memchr(b'\n', available);
            let piece = &available[..feed.unwrap_or(available.len())];
            ended = feed.is_some();
            length += piece.len() as u64;
            if length <= self.line_bytes_max as u64 {
                self.line.extend_from_slice(piece);
            }
            let used = piece.len() + usize::from(ended);
            self.source.consume(used);
        }
        self.number += 1;
        if length > self.line_bytes_max as u64 {
            return Ok(Some(Line::TooLong(length)));
        }
        Ok(Some(Line::Whole(&self.line)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn all(bytes: &[u8], bound: usize, buffer: usize) -> Vec<Result<Vec<u8>, u64>> {
        let mut lines = Lines::new(BufReader::with_capacity(buffer, bytes), bound);
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            found.push(match line {
                Line::Whole(line) => Ok(line.to_vec()),
                Line::TooLong(length) => Err(length),
            });
        }
        assert_eq!(lines.number(), found.len() as u64);
        found
    }

    fn whole(line: &[u8]) -> Result<Vec<u8>, u64> {
        Ok(line.to_vec())
    }

    #[test]
    fn the_last_line_needs_no_line_feed_and_none_is_made_up_behind_one() {
        for buffer in [1, 2, 3, 64] {
            assert_eq!(all(b"", 9, buffer), []);
            assert_eq!(all(b"\n", 9, buffer), [whole(b"")]);
            assert_eq!(all(b"a\n\nb", 9, buffer), [whole(b"a"), whole(b""), whole(b"b")]);
            assert_eq!(all(b"a\nb\n", 9, buffer), [whole(b"a"), whole(b"b")]);
            assert_eq!(all(b"a\r\n\0\n", 9, buffer), [whole(b"a\r"), whole(b"\0")]);
        }
    }

    #[test]
    fn a_line_at_the_bound_is_whole_and_one_beyond_is_passed_over() {
        for buffer in [1, 2, 3, 64] {
            assert_eq!(all(b"abc\nabcd\nx", 3, buffer), [whole(b"abc"), Err(4), whole(b"x")]);
            assert_eq!(all(b"abcdef", 3, buffer), [Err(6)]);
        }
    }
}
