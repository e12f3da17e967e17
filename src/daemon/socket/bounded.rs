//! A connection whose requests are bounded in front of the parser.
//!
//! zlink buffers up to 100 MB of a message before it is complete. Here a request that is longer than the limit ends
//! the connection as soon as that shows, with no more than the limit in memory. File descriptors that somebody
//! sends along are never received: a plain read(2) leaves them to the kernel, which closes them.

use std::io::ErrorKind;
use std::os::fd::AsFd;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zlink::connection::PassedCredentials;
use zlink::connection::socket::{ReadHalf, ReadResult, Socket, WriteHalf};

/// How long a request may be, in bytes, without the NUL that ends it.
pub(super) const LONGEST_REQUEST: usize = 64 << 10;
/// What is written before others have their turn.
const CHUNK: usize = 64 << 10;

/// One connection.
#[derive(Debug)]
pub(super) struct Bounded(pub(super) UnixStream);

/// Its side to read from.
#[derive(Debug)]
pub(super) struct Requests {
    socket: OwnedReadHalf,
    limit: Limit,
}

/// Its side to write to.
#[derive(Debug)]
pub(super) struct Replies(OwnedWriteHalf);

impl Socket for Bounded {
    type ReadHalf = Requests;
    type WriteHalf = Replies;

    fn split(self) -> (Requests, Replies) {
        let (read, write) = self.0.into_split();
        (Requests { socket: read, limit: Limit::default() }, Replies(write))
    }
}

impl ReadHalf for Requests {
    async fn read(&mut self, buf: &mut [u8]) -> zlink::Result<ReadResult> {
        let room = self.limit.room().min(buf.len());
        let read = self.socket.read(&mut buf[..room]).await?;
        if !self.limit.take(&buf[..read]) {
            return Err(zlink::Error::BufferOverflow);
        }
        Ok(ReadResult::new(read))
    }
}

impl Requests {
    /// Waits until the peer has gone, or says something more.
    pub(super) async fn ends(&self) {
        loop {
            if self.socket.readable().await.is_err() {
                return;
            }
            match self.socket.try_read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }
}

impl WriteHalf for Replies {
    async fn write(&mut self, buf: &[u8], _: &[impl AsFd], _: Option<&PassedCredentials>) -> zlink::Result<()> {
        Ok(self.send(buf).await?)
    }
}

impl Replies {
    /// Writes all of `bytes`; a long message leaves others their turn.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        for chunk in bytes.chunks(CHUNK) {
            self.0.write_all(chunk).await?;
            if chunk.len() == CHUNK {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }
}

/// How much of a request is read already.
#[derive(Debug, Default)]
struct Limit {
    since_end: usize,
}

impl Limit {
    /// How much may be read next: what the request may still be long, and the NUL behind it.
    fn room(&self) -> usize {
        LONGEST_REQUEST + 1 - self.since_end
    }

    /// Counts what was read; whether the request may still be within its limit.
    fn take(&mut self, read: &[u8]) -> bool {
        match read.iter().rposition(|&byte| byte == 0) {
            Some(end) => self.since_end = read.len() - end - 1,
            None => self.since_end += read.len(),
        }
        self.since_end <= LONGEST_REQUEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `bytes` in parts of at most `part`; how much was taken in where it was too much.
    fn read(bytes: &[u8], part: usize) -> Result<(), usize> {
        let mut limit = Limit::default();
        let mut at = 0;
        while at < bytes.len() {
            let end = bytes.len().min(at + part.min(limit.room()));
            if !limit.take(&bytes[at..end]) {
                return Err(end);
            }
            at = end;
        }
        Ok(())
    }

    fn request(length: usize) -> Vec<u8> {
        let mut bytes = vec![b' '; length];
        bytes.push(0);
        bytes
    }

    #[test]
    fn a_request_has_its_limit_however_it_comes() {
        for part in [1, 256, 4096, LONGEST_REQUEST, usize::MAX] {
            assert_eq!(read(&request(LONGEST_REQUEST - 1), part), Ok(()));
            assert_eq!(read(&request(LONGEST_REQUEST), part), Ok(()));
            assert_eq!(read(&request(LONGEST_REQUEST + 1), part), Err(LONGEST_REQUEST + 1));
        }
    }

    #[test]
    fn each_request_of_several_has_the_limit_of_its_own() {
        let many = [request(LONGEST_REQUEST), request(10), request(LONGEST_REQUEST)].concat();
        for part in [1, 1000, LONGEST_REQUEST, usize::MAX] {
            assert_eq!(read(&many, part), Ok(()));
        }
        let last = [request(10), request(LONGEST_REQUEST + 1)].concat();
        assert_eq!(read(&last, 1000), Err(11 + LONGEST_REQUEST + 1));
    }
}
