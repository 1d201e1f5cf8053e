//! Bounds-checked little-endian reading and writing.
//!
//! Nothing read from a disk, a network or an object store is trusted: every read says what it wanted, where, and
//! what was left, and every length is bounded *before* anything is allocated. A [`Reader`] never panics, whatever
//! the bytes. Its caller turns a [`CodecError`] into a [`Corruption`](crate::Corruption) that names the file.

use std::fmt;

/// Why bytes could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodecError {
    /// Bytes from the start of the input.
    pub offset: usize,
    /// What was being read.
    pub what: &'static str,
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read {} at offset {}", self.what, self.offset)
    }
}

impl std::error::Error for CodecError {}

/// Reads fixed-width little-endian numbers, variable-length numbers and byte strings from a slice.
///
/// ```
/// use logwood_base::codec::{Reader, Writer};
///
/// let mut bytes = Vec::new();
/// bytes.put_u32(7);
/// bytes.put_varint(300);
/// bytes.put_bytes(b"key");
///
/// let mut reader = Reader::new(&bytes);
/// assert_eq!(reader.u32("count")?, 7);
/// assert_eq!(reader.varint("length")?, 300);
/// assert_eq!(reader.bytes(3, "key")?, b"key");
/// reader.finish("record")?;
/// # Ok::<(), logwood_base::codec::CodecError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Bytes read so far.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes not read yet.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.bytes.len() - self.offset
    }

    /// The error of failing to read `what` here.
    #[must_use]
    pub const fn error(&self, what: &'static str) -> CodecError {
        CodecError { offset: self.offset, what }
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// When fewer are left. Nothing is consumed then.
    #[inline]
    pub fn bytes(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], CodecError> {
        if length > self.remaining() {
            return Err(self.error(what));
        }
        let (start, end) = (self.offset, self.offset + length);
        self.offset = end;
        Ok(&self.bytes[start..end])
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// When fewer are left.
    #[inline]
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], CodecError> {
        let error = self.error(what);
        self.bytes(N, what)?.try_into().map_err(|_| error)
    }

    /// One byte.
    ///
    /// # Errors
    /// At the end of the input.
    #[inline]
    pub fn u8(&mut self, what: &'static str) -> Result<u8, CodecError> {
        Ok(self.array::<1>(what)?[0])
    }

    /// Two bytes, little-endian.
    ///
    /// # Errors
    /// When fewer are left.
    #[inline]
    pub fn u16(&mut self, what: &'static str) -> Result<u16, CodecError> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    /// Four bytes, little-endian.
    ///
    /// # Errors
    /// When fewer are left.
    #[inline]
    pub fn u32(&mut self, what: &'static str) -> Result<u32, CodecError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// Eight bytes, little-endian.
    ///
    /// # Errors
    /// When fewer are left.
    #[inline]
    pub fn u64(&mut self, what: &'static str) -> Result<u64, CodecError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Sixteen bytes, little-endian.
    ///
    /// # Errors
    /// When fewer are left.
    #[inline]
    pub fn u128(&mut self, what: &'static str) -> Result<u128, CodecError> {
        Ok(u128::from_le_bytes(self.array(what)?))
    }

    /// A number of one to ten bytes, seven bits each, least significant first (LEB128). Only the shortest form is
    /// accepted, so that equal numbers have equal bytes.
    ///
    /// # Errors
    /// When the input ends, the number passes 64 bits, or a shorter form exists.
    #[inline]
    pub fn varint(&mut self, what: &'static str) -> Result<u64, CodecError> {
        let error = self.error(what);
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(error);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 { Err(error) } else { Ok(value) };
            }
        }
        Err(error)
    }

    /// A variable-length number followed by that many bytes, at most `limit`.
    ///
    /// # Errors
    /// When the length passes `limit` or what is left.
    #[inline]
    pub fn length_prefixed(&mut self, limit: usize, what: &'static str) -> Result<&'a [u8], CodecError> {
        let error = self.error(what);
        let length = usize::try_from(self.varint(what)?).map_err(|_| error)?;
        if length > limit {
            return Err(error);
        }
        self.bytes(length, what)
    }

    /// Requires that everything has been read.
    ///
    /// # Errors
    /// When bytes are left.
    pub fn finish(&self, what: &'static str) -> Result<(), CodecError> {
        if self.remaining() == 0 { Ok(()) } else { Err(self.error(what)) }
    }
}

/// Appends what a [`Reader`] reads.
pub trait Writer {
    /// Appends bytes as they are.
    fn put_bytes(&mut self, bytes: &[u8]);

    /// Appends one byte.
    fn put_u8(&mut self, value: u8) {
        self.put_bytes(&[value]);
    }

    /// Appends two bytes, little-endian.
    fn put_u16(&mut self, value: u16) {
        self.put_bytes(&value.to_le_bytes());
    }

    /// Appends four bytes, little-endian.
    fn put_u32(&mut self, value: u32) {
        self.put_bytes(&value.to_le_bytes());
    }

    /// Appends eight bytes, little-endian.
    fn put_u64(&mut self, value: u64) {
        self.put_bytes(&value.to_le_bytes());
    }

    /// Appends sixteen bytes, little-endian.
    fn put_u128(&mut self, value: u128) {
        self.put_bytes(&value.to_le_bytes());
    }

    /// Appends a variable-length number in its shortest form.
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.put_u8(value as u8);
    }

    /// Appends a variable-length length and the bytes.
    fn put_length_prefixed(&mut self, bytes: &[u8]) {
        self.put_varint(bytes.len() as u64);
        self.put_bytes(bytes);
    }
}

impl Writer for Vec<u8> {
    fn put_bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// How many bytes [`Writer::put_varint`] appends for `value`.
#[must_use]
pub const fn varint_bytes(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_length_numbers_come_back_and_have_one_form() {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, u64::from(u32::MAX), 1 << 63, u64::MAX] {
            let mut bytes = Vec::new();
            bytes.put_varint(value);
            assert_eq!(bytes.len(), varint_bytes(value));
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.varint("n"), Ok(value));
            assert_eq!(reader.finish("n"), Ok(()));
        }
        assert!(Reader::new(&[0x80, 0x00]).varint("padded").is_err());
        assert!(Reader::new(&[0xff; 10]).varint("too long").is_err());
        assert!(Reader::new(&[0x80]).varint("cut short").is_err());
    }

    #[test]
    fn a_length_beyond_the_input_or_the_limit_is_refused() {
        let mut bytes = Vec::new();
        bytes.put_varint(u64::MAX);
        assert!(Reader::new(&bytes).length_prefixed(usize::MAX, "value").is_err());
        let mut bytes = Vec::new();
        bytes.put_length_prefixed(b"abcd");
        assert!(Reader::new(&bytes).length_prefixed(3, "value").is_err());
        assert_eq!(Reader::new(&bytes).length_prefixed(4, "value"), Ok(&b"abcd"[..]));
    }

    #[test]
    fn a_failed_read_names_its_place() {
        let mut reader = Reader::new(&[1, 2, 3]);
        reader.u8("first").unwrap();
        assert_eq!(reader.u32("second"), Err(CodecError { offset: 1, what: "second" }));
        assert_eq!(reader.remaining(), 2, "nothing is consumed by a failed read");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, limit in 0usize..64) {
            let mut reader = Reader::new(&bytes);
            while reader.remaining() > 0 {
                let before = reader.offset();
                let _ = reader.varint("n");
                let _ = reader.length_prefixed(limit, "b");
                let _ = reader.u128("u");
                if reader.offset() == before {
                    let _ = reader.u8("skip");
                }
            }
        }
    }
}
