//! The socket on which systemd itself speaks to root, without a bus in between; what systemctl(1) uses.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;

/// There systemd listens.
const PATH: &str = "/run/systemd/private";

/// As systemd says on it who sends a message: header field 7 of the D-Bus specification, a string of 24 bytes. A
/// well-known name is none that a sender may have, and zbus turns such messages away.
const SENDER: &[u8] = b"\x07\x01s\0\x18\0\0\0org.freedesktop.systemd1\0";
/// The number of a field that may be such a name, and says nothing where there are only two: whom it is for.
const DESTINATION: u8 = 6;

/// A connection to it.
#[derive(Debug)]
pub(super) struct Private(UnixStream);

impl Private {
    pub(super) async fn connect() -> io::Result<Self> {
        UnixStream::connect(Path::new(PATH)).await.map(Self)
    }
}

impl Socket for Private {
    type ReadHalf = Reader;
    type WriteHalf = Writer;

    fn split(self) -> Split<Reader, Writer> {
        let (read, write) = self.0.into_split();
        Split::new(Reader(read), Writer(write))
    }
}

#[derive(Debug)]
pub(super) struct Reader(OwnedReadHalf);

#[derive(Debug)]
pub(super) struct Writer(OwnedWriteHalf);

#[async_trait]
impl ReadHalf for Reader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let mut read = 0;
        loop {
            let more = self.0.read(&mut buffer[read..]).await?;
            read += more;
            // A message is asked for in one piece: where it ends amid the field, the rest of that is still to come.
            if more == 0 || read == buffer.len() || !ends_amid(&buffer[..read]) {
                break;
            }
        }
        without_sender(&mut buffer[..read]);
        Ok((read, Vec::new()))
    }
}

#[async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.0.write(buffer).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.0.flush().await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

fn ends_amid(bytes: &[u8]) -> bool {
    (1..SENDER.len()).any(|length| bytes.ends_with(&SENDER[..length]))
}

fn without_sender(bytes: &mut [u8]) {
    if let Some(at) = bytes.windows(SENDER.len()).position(|window| window == SENDER) {
        bytes[at] = DESTINATION;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_that_none_may_be_is_not_said() {
        let mut message = [b"l\x02\x01\x01 rest ".as_slice(), SENDER, b" body"].concat();
        without_sender(&mut message);
        assert_eq!(message, [b"l\x02\x01\x01 rest \x06".as_slice(), &SENDER[1..], b" body"].concat());
        assert!(ends_amid(b"x\x07\x01s\0\x18") && !ends_amid(b"x") && !ends_amid(SENDER));
    }

    #[test]
    fn a_message_that_comes_in_two_pieces_is_read_as_one() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (ours, mut theirs) = UnixStream::pair().expect("a pair");
            let (mut reader, _writer) = Private(ours).split().take();
            let message = [b"head".as_slice(), SENDER, b"body"].concat();
            let (first, rest) = message.split_at(9);
            theirs.write_all(first).await.expect("sent");
            let mut buffer = vec![0; message.len()];
            let read = async { reader.recvmsg(&mut buffer).await.expect("read").0 };
            let send = async {
                tokio::task::yield_now().await;
                theirs.write_all(rest).await.expect("sent");
            };
            let (read, ()) = tokio::join!(read, send);
            assert_eq!(buffer[..read], [b"head\x06".as_slice(), &SENDER[1..], b"body"].concat());
        });
    }
}
