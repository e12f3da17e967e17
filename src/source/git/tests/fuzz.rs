//! Whatever a worker says, the agent has what the commit names, or an error.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::source::MOST_BYTES;
use crate::worker::protocol::fuzz::{changes, spoiled};

/// A worker that says what is on a tape, whatever it is asked.
#[derive(Debug)]
struct Tape {
    says: io::Cursor<Vec<u8>>,
    taken: Arc<AtomicUsize>,
}

impl Read for Tape {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.says.read(buffer)?;
        self.taken.fetch_add(n, Ordering::SeqCst);
        Ok(n)
    }
}

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Channel for Tape {}

fn look(pipe: Pipe) -> Result<Snapshot> {
    let mut source = Source::over(pipe, open(), "")?;
    let mut snapshot = source.snapshot()?;
    source.read_layers(&mut snapshot, &["hosts/web".to_owned()])?;
    Ok(snapshot)
}

fn heard(tape: Vec<u8>) -> (Result<Snapshot>, usize) {
    let taken = Arc::new(AtomicUsize::new(0));
    let tape = Tape { says: io::Cursor::new(tape), taken: Arc::clone(&taken) };
    let looked = look(Pipe::over(Box::new(tape), "the tape", Duration::from_secs(60)));
    (looked, taken.load(Ordering::SeqCst))
}

/// What an honest worker says in a whole look, answer by answer, and what comes of it.
fn honest() -> (Vec<Vec<u8>>, Snapshot) {
    let mut store = Store::default();
    let tree = fleet(&mut store, 2);
    let tip = store.commit(tree, &[]);
    let said = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = Arc::clone(&said);
    let pipe = fake(move |request| {
        let answers = match request {
            Request::Open(_) => vec![Answer::Tip(tip)],
            other => store.answer(&other),
        };
        for answer in &answers {
            let mut wire = Vec::new();
            answer.send(&mut wire).expect("fits");
            told.lock().expect("whole").push(wire);
        }
        answers
    });
    let snapshot = look(pipe).expect("it is honest");
    let said = said.lock().expect("whole").clone();
    (said, snapshot)
}

/// It is as the honest one, but for files that are withheld; or an error with a word.
fn judge(looked: &Result<Snapshot>, honest: &Snapshot) -> std::result::Result<(), TestCaseError> {
    match looked {
        Err(error) => prop_assert!(!error.reason().is_empty()),
        Ok(snapshot) => {
            prop_assert_eq!(&snapshot.revision, &honest.revision);
            prop_assert_eq!(snapshot.entries.len(), honest.entries.len());
            for (path, entry) in &snapshot.entries {
                let withheld = matches!(entry, Entry::TooLarge { .. });
                prop_assert!(withheld || honest.entries.get(path) == Some(entry), "{}: {:?}", path, entry);
            }
        }
    }
    Ok(())
}

#[test]
fn what_an_honest_worker_said_is_believed_from_a_tape_too() {
    let (said, honest) = honest();
    let tape = said.concat();
    let length = tape.len();
    let (looked, taken) = heard(tape);
    assert_eq!(taken, length);
    assert_eq!(looked.expect("it is honest").entries, honest.entries);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_that_were_changed_are_never_believed(changes in changes()) {
        let (said, honest) = honest();
        let (looked, taken) = heard(spoiled(said.concat(), &changes));
        judge(&looked, &honest)?;
        prop_assert!(taken as u64 <= MOST_BYTES);
    }

    #[test]
    fn answers_in_another_order_are_never_believed(order in vec(any::<proptest::sample::Index>(), 0..30)) {
        let (said, honest) = honest();
        let tape: Vec<u8> = order.iter().flat_map(|index| index.get(&said).clone()).collect();
        judge(&heard(tape).0, &honest)?;
    }

    #[test]
    fn any_bytes_are_an_error(bytes in vec(any::<u8>(), 0..2000)) {
        prop_assert!(heard(bytes).0.is_err());
    }
}
