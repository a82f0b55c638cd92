//! `dv-load matrix`: every single datagram of the handshake lost once, twice and three times, and every pair of them.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use crate::args::{Args, Usage};
use crate::client::{Client, Direction, Profile, Timer};
use crate::connect::{Plan, connect_all};
use crate::forge::RECORD_HEADER;
use crate::handshake;
use crate::report::{Progress, Report};

/// The options of the subcommand.
pub const HELP: &str = "\
matrix --to ADDR [--timer openssl|fast] [--deadline S] [--ca FILE]
  Finds out of which datagrams a handshake consists, then runs handshakes in which each of them is lost once, twice
  and three times, and each pair once. Exits with 0 when all are complete within S seconds (60).";

/// Which datagram of the handshake something is, whoever repeats it in whatever record: what its first record begins
/// with. In clear that is type and number of the handshake message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    direction: Direction,
    epoch: u8,
    content: u8,
    message: Option<(u8, u8)>,
}

impl Place {
    fn of(direction: Direction, datagram: &[u8]) -> Option<Self> {
        const HANDSHAKE: u8 = 22;
        let [content, epoch] = [*datagram.first()?, *datagram.get(4)?];
        let header = datagram.get(RECORD_HEADER..RECORD_HEADER + 6);
        let message = header.filter(|_| epoch == 0 && content == HANDSHAKE).map(|header| (header[0], header[5]));
        Some(Place { direction, epoch, content, message })
    }
}

/// What is lost in one handshake: places, and how many times each.
type Case = Vec<(Place, u32)>;

/// Each place once, twice and three times, and each pair once.
fn cases(places: &[Place]) -> Vec<Case> {
    let single = places.iter().flat_map(|place| (1..=3).map(|times| vec![(*place, times)]));
    let pairs =
        places.iter().enumerate().flat_map(|(n, one)| places[n + 1..].iter().map(|other| vec![(*one, 1), (*other, 1)]));
    single.chain(pairs).collect()
}

/// Runs the subcommand.
pub fn run(mut args: Args) -> Result<bool, Usage> {
    let to = args.loopback("--to")?;
    let timer = args.or("--timer", Timer::Fast)?;
    let deadline = args.seconds("--deadline", 60.0)?;
    let profile = Profile::new(args.option::<PathBuf>("--ca")?.as_deref(), timer)?;
    args.finish()?;
    let plan = |count| Plan { to, sources: 1, count, concurrency: count, rate: 200.0, deadline, profile: &profile };

    let mut progress = Progress::new();
    let places = Rc::new(RefCell::new(Vec::new()));
    let whole = connect_all(plan(1), &mut progress, |_, link| {
        let places = places.clone();
        link.set_hook(Some(Box::new(move |_, direction, datagram| {
            let mut places = places.borrow_mut();
            let place = Place::of(direction, datagram).filter(|place| !places.contains(place));
            places.extend(place);
            true
        })));
    })?;
    if whole.clients.is_empty() {
        return Err(format!("not even an undisturbed handshake with {to} completes"));
    }
    whole.clients.into_iter().for_each(|client| {
        client.link().set_hook(None);
        client.close();
    });
    let places = places.take();
    let cases = cases(&places);
    let outcome = connect_all(plan(cases.len()), &mut progress, |index, link| {
        let mut left = cases[index].clone();
        link.set_hook(Some(Box::new(move |_, direction, datagram| {
            let Some(place) = Place::of(direction, datagram) else { return true };
            let listed = left.iter_mut().find(|(lost, times)| *lost == place && *times > 0);
            listed.map(|(_, times)| *times -= 1).is_none()
        })));
    })?;
    drop(progress);
    let good = outcome.took.len() == cases.len();
    let incomplete: Vec<&Case> =
        cases.iter().enumerate().filter(|(n, _)| !outcome.indices.contains(n)).map(|(_, case)| case).collect();
    let report = Report::new("matrix")
        .value("places", places.len())
        .value("cases", cases.len())
        .text("incomplete", &if good { String::new() } else { format!("{incomplete:?}") });
    handshake::describe(report, &outcome).value("good", good).print();
    outcome.clients.into_iter().for_each(Client::close);
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cases_are_all_there() {
        let place = |n| Place { direction: Direction::Out, epoch: 0, content: 22, message: Some((1, n)) };
        let places: Vec<Place> = (0..6).map(place).collect();
        let cases = cases(&places);
        assert_eq!(cases.len(), 6 * 3 + 6 * 5 / 2);
        assert!(cases.contains(&vec![(place(4), 3)]));
        assert!(cases.contains(&vec![(place(0), 1), (place(5), 1)]));
    }

    #[test]
    fn a_repeated_datagram_is_at_the_same_place() {
        let hello = |number: u8, message: u8| {
            let record = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, number, 0, 12];
            let handshake = [1, 0, 0, 0, 0, message, 0, 0, 0, 0, 0, 0];
            [&record[..], &handshake].concat()
        };
        let place = |bytes: &[u8]| Place::of(Direction::Out, bytes);
        assert_eq!(place(&hello(0, 0)), place(&hello(7, 0)));
        assert_ne!(place(&hello(0, 0)), place(&hello(0, 1)));
        assert_ne!(place(&hello(0, 0)), Place::of(Direction::In, &hello(0, 0)));
        assert_eq!(Place::of(Direction::In, &[22; 4]), None);
    }
}
