//! What each action does.

use tower_idempotency::core::{
    Acknowledge, CallbackStep, Change, Claim, Claimed, Done, EndCallback, Exchange, Fence, Hold, Intake,
    NotAcknowledged, Record, Reply, Resolution, Resolve, Resume, Resumed, Status, Submit, Submitted, Version,
};

use crate::branch::{Branch, Branches};
use crate::budget::Kind;
use crate::promises::{self, Broken};
use crate::state::{Action, Actor, Delivery, Ending, State};
use crate::store::{Author, Letter, Mail, Request, Shelf, Task, fence_of};
use crate::telling::Telling;
use crate::trip::{is_worth_it, leg};
use crate::worker::{
    Attempt, FencedTask, LEASE, Program, Stage, Who, Worker, acknowledging, claiming, disowning, park, resuming,
    submitting, whims,
};

/// How often a claim that was given up is looked for.
const LOOKS: u8 = 2;

impl State {
    /// This state after `action`.
    pub(crate) fn step(&self, action: &Action, seen: &mut Branches) -> Result<Self, Broken> {
        let mut next = self.clone();
        next.act(action, seen)?;
        promises::of_state(&next)?;
        Ok(next)
    }

    fn act(&mut self, action: &Action, seen: &mut Branches) -> Result<(), Broken> {
        match action {
            Action::Start(index, who, intake) => self.start(*index, *who, *intake),
            Action::Resume(index) => {
                self.budget.spend(Kind::Resume);
                self.workers[*index] = resuming(self.mint());
            }
            Action::Submit(index, intake) => {
                self.budget.spend(if *intake == Intake::Open { Kind::Submit } else { Kind::Window });
                self.workers[*index] = submitting(self.program, *intake, self.mint());
            }
            Action::Acknowledge(index) => {
                self.budget.spend(Kind::Acknowledge);
                self.workers[*index] = acknowledging(self.mint());
            }
            Action::Store(actor, delivery) => return self.store(*actor, *delivery, seen),
            Action::Arrive(index) => return self.arrive(*index, seen),
            Action::Hear(Actor::Worker(index)) => return self.hear(*index, seen),
            Action::Hear(Actor::Aside(index)) => self.hear_aside(*index, seen),
            Action::Hear(Actor::Operator) => self.hear_operator(seen),
            Action::Hear(Actor::Ender) => self.hear_ender(seen),
            Action::Tell(index) => return self.tell(*index, true, seen),
            Action::FailToTell(index) => {
                self.budget.spend(Kind::Fail);
                return self.tell(*index, false, seen);
            }
            Action::GiveUp(index) => self.give_up(*index, seen),
            Action::Tick => {
                self.budget.spend(Kind::Tick);
                self.shelf.tick();
            }
            Action::Purge => return self.purge(seen),
            Action::Crash(index) => {
                self.budget.spend(Kind::Crash);
                self.workers[*index] = Worker::Idle;
            }
            Action::Resolve(resolution) => self.resolve(resolution),
            Action::EndCallback => self.end_callback(),
            Action::Refuse(index) => return self.refuse(*index, seen),
            handler => return self.handle(handler, seen),
        }
        Ok(())
    }

    fn start(&mut self, index: usize, who: Who, intake: Intake) {
        self.budget.spend(match (who, intake) {
            (Who::Stranger, _) => Kind::Stranger,
            (Who::Owner, Intake::Open) => Kind::Request,
            (Who::Owner, _) => Kind::Window,
        });
        let nonce = self.mint();
        self.workers[index] = claiming(self.program, who, intake, nonce);
    }

    /// Where it stands, or before anything else if it was granted just now.
    fn refuse(&mut self, index: usize, seen: &mut Branches) -> Result<(), Broken> {
        self.budget.spend(Kind::Refuse);
        if self.workers[index].may_be_granted() {
            self.hear(index, seen)?;
            if let Worker::Holding(attempt) = &mut self.workers[index] {
                (attempt.write, attempt.reached) = (None, false);
            }
        }
        match std::mem::replace(&mut self.workers[index], Worker::Idle) {
            Worker::Holding(mut attempt) => {
                match attempt.program {
                    Program::Trip | Program::TripCallsBack => attempt.stage = Stage::Plan,
                    Program::CallsBack => attempt.write(park(), Stage::Over, self.mint()),
                    _ => attempt.stage = Stage::Refuse,
                }
                self.go_on(index, attempt);
            }
            other => self.workers[index] = other,
        }
        Ok(())
    }

    fn resolve(&mut self, resolution: &Resolution) {
        self.budget.spend(Kind::Resolve);
        // As an operator does, who decides about what was shown.
        let seen = self.shelf.record.as_ref().map(Record::version);
        let command = Resolve { resolution: resolution.clone(), seen, why: None };
        let author = Author::Operator(command.clone());
        self.operator = Some(Task::new(Exchange::looking(command, self.mint()), author));
    }

    /// As an operator does, who decides about what was shown.
    fn end_callback(&mut self) {
        self.budget.spend(Kind::EndCallback);
        let Some(seen) = self.shelf.record.as_ref().map(Record::version) else { return };
        let command = EndCallback { seen, why: None };
        let author = Author::Ender(command.clone());
        self.ender = Some(Task::new(Exchange::looking(command, self.mint()), author));
    }

    fn hear_ender(&mut self, seen: &mut Branches) {
        let Some(mut task) = self.ender.take() else { return };
        if !task.hear() {
            self.ender = Some(task);
        } else if task.exchange.finish().is_some_and(|done| done.output.is_err()) {
            seen.saw(Branch::CallbackNotGivenUp);
        }
    }

    fn purge(&mut self, seen: &mut Branches) -> Result<(), Broken> {
        self.budget.spend(Kind::Purge);
        seen.saw(Branch::Purged);
        promises::of_expiry(self)?;
        seen.saw_if(self.world.lives[usize::from(self.world.current())].acknowledged, Branch::ForgottenEarly);
        self.shelf.record = None;
        self.rebirth();
        Ok(())
    }

    fn store(&mut self, actor: Actor, delivery: Delivery, seen: &mut Branches) -> Result<(), Broken> {
        let Some(request) = self.request(actor).cloned() else { return Ok(()) };
        let Some(author) = self.asked(actor).map(|(_, author)| author.clone()) else { return Ok(()) };
        let letter = Letter { request, author };
        let reply = match delivery {
            Delivery::Fine => self.apply(&letter, seen)?,
            Delivery::Twice => self.apply(&letter, seen)?,
            Delivery::ReplyLost => self.apply(&letter, seen).map(|_| Some(Reply::Unknown))?,
            Delivery::Refused | Delivery::Late => Some(Reply::Unknown),
        };
        match delivery {
            Delivery::Fine => {}
            Delivery::ReplyLost => self.budget.spend(Kind::Lost),
            Delivery::Refused => self.budget.spend(Kind::Error),
            Delivery::Late => self.post(letter, Kind::Late),
            Delivery::Twice => self.post(letter, Kind::Twice),
        }
        let mail = reply.map_or(Mail::Asked(Request::Load), |reply| Mail::Said(reply, self.world.current()));
        self.asked(actor).into_iter().for_each(|(to, _)| *to = mail.clone());
        Ok(())
    }

    /// What waits for the store, and for whom.
    fn asked(&mut self, actor: Actor) -> Option<(&mut Mail, &Author)> {
        match actor {
            Actor::Worker(index) => self.workers[index].asked(),
            Actor::Aside(index) => match &mut self.workers[index] {
                Worker::Holding(Attempt { aside: Some(task), .. }) => Some((&mut task.mail, &task.author)),
                _ => None,
            },
            Actor::Operator => self.operator.as_mut().map(|task| (&mut task.mail, &task.author)),
            Actor::Ender => self.ender.as_mut().map(|task| (&mut task.mail, &task.author)),
        }
    }

    fn post(&mut self, letter: Letter, kind: Kind) {
        self.budget.spend(kind);
        self.late.push(letter);
    }

    fn arrive(&mut self, index: usize, seen: &mut Branches) -> Result<(), Broken> {
        let letter = self.late.remove(index);
        let taken = self.apply(&letter, seen)? == Some(Reply::Written);
        seen.saw(if taken { Branch::LateWriteTook } else { Branch::LateWriteRejected });
        Ok(())
    }

    /// The one place where the record changes, but for a purge.
    fn apply(&mut self, letter: &Letter, seen: &mut Branches) -> Result<Option<Reply>, Broken> {
        let before = self.shelf.clone();
        let reply = self.shelf.handle(&letter.request);
        if reply == Some(Reply::Written) {
            self.took(&before, &letter.author, seen);
            let fence = before.record.as_ref().and_then(fence_of);
            let held = fence.is_some_and(|fence| self.workers.iter().any(|worker| worker.acts_under(fence)));
            let accepted = self.world.life(self.world.current()).accepted;
            promises::of_write(&before, &self.shelf, &letter.author, held)?;
            promises::of_accepted(accepted, &self.shelf)?;
        }
        Ok(reply)
    }

    /// Keeps the books of what the write meant.
    fn took(&mut self, before: &Shelf, author: &Author, seen: &mut Branches) {
        let acknowledged = matches!(author, Author::Acknowledge(_));
        if before.has_expired() && !acknowledged {
            seen.saw(Branch::ExpiredReplaced);
            self.rebirth();
        }
        let life = self.world.current();
        if let Author::Operator(Resolve { resolution, .. }) = author {
            let world = self.world.life(life);
            match resolution {
                // A claim about all that was done outside of steps.
                Resolution::RunAgain => world.allowed += 1,
                Resolution::DidNotHappen { step } if &**step == "receipt" => world.receipts_denied += 1,
                Resolution::DidNotHappen { .. } => world.charges_denied += 1,
                _ => {}
            }
        }
        let ended = self.shelf.record.as_ref().filter(|record| has_ended(record)).map(Record::version);
        let tells = matches!(author, Author::Teller(_) | Author::Acknowledge(_) | Author::Ender(_));
        let world = self.world.life(life);
        world.ends.extend(ended.filter(|_| !tells && self.program.calls_back()));
        if let (Author::Ender(_), Some(owed)) = (author, before.record.as_ref().and_then(Record::pending_callback)) {
            world.given_up.push(owed.end());
        }
        world.accepted |= matches!(author, Author::Submit(..));
        world.acknowledged |= acknowledged;
        let Some(version) = self.shelf.record.as_ref().map(Record::version) else { return seen.saw(Branch::Withdrawn) };
        let withdraws = matches!(author, Author::Holder(command) if command.changes.contains(&Change::Withdraw));
        seen.saw_if(withdraws && self.world.life(life).accepted, Branch::KeptAccepted);
        self.workers.iter_mut().for_each(|worker| worker.note(version, life));
        self.operator.iter_mut().for_each(|task| task.note(version, life));
        self.ender.iter_mut().for_each(|task| task.note(version, life));
        seen.saw_write(before, &self.shelf, author);
    }

    /// The key begins a new life. What was still on its way is taken to be
    /// gone: no write travels for longer than an answer is kept. (One that did
    /// would find the key absent, as it expected, and nothing could tell.)
    fn rebirth(&mut self) {
        self.world.rebirth();
        self.late.clear();
    }

    fn hear_operator(&mut self, seen: &mut Branches) {
        let Some(mut task) = self.operator.take() else { return };
        if !task.hear() {
            self.operator = Some(task);
        } else if let Some(done) = task.exchange.finish() {
            seen.saw(if done.output.is_ok() { Branch::Resolved } else { Branch::NotResolved });
        }
    }

    fn hear(&mut self, index: usize, seen: &mut Branches) -> Result<(), Broken> {
        match std::mem::replace(&mut self.workers[index], Worker::Idle) {
            Worker::Idle => {}
            Worker::Claiming(mut task) => {
                let recognised = task.sees_itself();
                if task.hear() {
                    seen.saw_if(recognised, Branch::OwnClaimRecognised);
                    return self.claimed(index, task, seen);
                }
                self.workers[index] = Worker::Claiming(task);
            }
            Worker::Resuming(mut task) => {
                if task.hear() {
                    return self.resumed(index, task, seen);
                }
                self.workers[index] = Worker::Resuming(task);
            }
            Worker::Submitting(mut task) => {
                if task.hear() {
                    return self.submitted(task, seen);
                }
                self.workers[index] = Worker::Submitting(task);
            }
            Worker::Acknowledging(mut task) => {
                if task.hear() {
                    return acknowledged(task, seen);
                }
                self.workers[index] = Worker::Acknowledging(task);
            }
            Worker::Telling(telling) => self.hear_telling(index, telling, seen)?,
            Worker::Disowning(task, looks) => self.hear_disowning(index, task, looks, seen),
            Worker::Holding(attempt) => return self.hear_attempt(index, attempt, seen),
        }
        Ok(())
    }

    fn claimed(&mut self, index: usize, task: Task<Claim, Claimed>, seen: &mut Branches) -> Result<(), Broken> {
        let (nonce, took, heard) = (task.exchange.nonce(), task.took, task.life());
        let author = task.author;
        let Some(done) = task.exchange.finish() else { return Err("a claim ended without an outcome".into()) };
        let written = took.map_or(nonce, |(_, version)| version);
        promises::of_claim(&author, Fence::of(written), &done)?;
        seen.saw_claim(&done);
        if matches!(author, Author::Claim(_, intake) if intake != Intake::Open) {
            seen.saw_if(matches!(done.output, Claimed::Granted(_)), Branch::ResumedInWindow);
            seen.saw_if(matches!(done.output, Claimed::Replay(..)), Branch::ReplayedInWindow);
        }
        match (done.output, done.record) {
            (Claimed::Granted(fence), Some(record)) => {
                let (life, _) = took.ok_or("a claim was granted that was never stored")?;
                let mut attempt = Attempt::new(self.program, fence, life, record);
                attempt.go_on(self.take_version());
                self.workers[index] = Worker::Holding(attempt);
            }
            (Claimed::Replay(response, _), _) => {
                self.answer(heard.ok_or("a replay that the store was not asked for")?, response.body());
            }
            _ => {}
        }
        Ok(())
    }

    fn resumed(&mut self, index: usize, task: Task<Resume, Resumed>, seen: &mut Branches) -> Result<(), Broken> {
        let (took, heard) = (task.took, task.life());
        let Some(done) = task.exchange.finish() else {
            return Err("a completer's claim ended without an outcome".into());
        };
        seen.saw_resume(&done.output);
        match (done.output, done.record) {
            (Resumed::Granted(fence), Some(record)) => {
                let (life, _) = took.ok_or("a completer was granted what was never stored")?;
                let mut attempt = Attempt::new(self.program, fence, life, record);
                attempt.go_on(self.take_version());
                self.workers[index] = Worker::Holding(attempt);
            }
            (Resumed::CallbackPending, Some(record)) => {
                let life = heard.ok_or("a callback that the store was not asked for")?;
                let nonce = self.mint();
                self.workers[index] = Telling::new(record, life, nonce).map_or(Worker::Idle, Worker::Telling);
            }
            // Its reconciler does not know either, of what it looked at.
            (Resumed::InDoubt, looked) if self.operator.is_none() => {
                let seen = looked.as_ref().map(Record::version);
                let command = Resolve { resolution: Resolution::Park { why: "nobody knows".into() }, seen, why: None };
                let author = Author::Operator(command.clone());
                self.operator = Some(Task::new(Exchange::looking(command, self.mint()), author));
            }
            _ => {}
        }
        Ok(())
    }

    fn submitted(&mut self, task: Task<Submit, Submitted>, seen: &mut Branches) -> Result<(), Broken> {
        let (took, heard) = (task.took, task.life());
        let Some(done) = task.exchange.finish() else { return Err("a submission ended without an outcome".into()) };
        seen.saw_submit(&done.output);
        match done.output {
            Submitted::First(_) if took.is_none() => Err("what was never stored was accepted".into()),
            Submitted::Replay(response, _) => {
                self.answer(heard.ok_or("a replay that the store was not asked for")?, response.body());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn answer(&mut self, life: u8, body: Option<&bytes::Bytes>) {
        self.world.answer(life, body);
    }

    fn hear_disowning(&mut self, index: usize, mut task: FencedTask, looks: u8, seen: &mut Branches) {
        if !task.hear() {
            self.workers[index] = Worker::Disowning(task, looks);
            return;
        }
        let Author::Holder(command) = &task.author else { return };
        let fence = command.fence;
        let disowned = task.exchange.finish().is_some_and(|done| done.output.is_ok());
        seen.saw(if disowned { Branch::Disowned } else { Branch::NothingToDisown });
        if !disowned && looks > 1 {
            let nonce = self.mint();
            self.workers[index] = disowning(fence, nonce, looks - 1);
        }
    }

    fn hear_attempt(&mut self, index: usize, mut attempt: Attempt, seen: &mut Branches) -> Result<(), Broken> {
        let answering = attempt.is_answering();
        let Some(mut task) = attempt.write.take() else { return Ok(()) };
        let recognised = task.sees_itself();
        if !task.hear() {
            attempt.write = Some(task);
            self.workers[index] = Worker::Holding(attempt);
            return Ok(());
        }
        let (took, heard) = (task.took.map(|(_, version)| version), task.life());
        let Some(done) = task.exchange.finish() else { return Err("a write ended without an outcome".into()) };
        promises::of_outcome(took, &done)?;
        let Done { output: Ok(()), record } = done else {
            seen.saw(Branch::ZombieLost);
            self.lost(done.record.as_ref(), heard);
            return Ok(());
        };
        seen.saw_if(recognised, Branch::OwnWriteRecognised);
        let response = record.as_ref().and_then(Record::response).cloned().filter(|_| answering);
        if let Some(response) = response {
            self.answer(attempt.life, response.body());
        }
        attempt.record = record.unwrap_or(attempt.record);
        self.go_on(index, attempt);
        Ok(())
    }

    /// The client of an attempt that was lost gets the stored answer, if there
    /// is one yet.
    fn lost(&mut self, found: Option<&Record>, heard: Option<u8>) {
        if let (Some(response), Some(life)) = (found.and_then(Record::response), heard) {
            self.answer(life, response.body());
        }
    }

    fn go_on(&mut self, index: usize, mut attempt: Attempt) {
        attempt.go_on(self.take_version());
        let over = attempt.write.is_none() && attempt.stage == Stage::Over;
        self.workers[index] = if over { Worker::Idle } else { Worker::Holding(attempt) };
    }

    /// The driver stops asking; what it asked for may have been done, or may
    /// yet be.
    fn give_up(&mut self, index: usize, seen: &mut Branches) {
        self.budget.spend(Kind::GiveUp);
        let nonce = self.mint();
        match std::mem::replace(&mut self.workers[index], Worker::Idle) {
            Worker::Claiming(task) => {
                self.workers[index] = disowning(Fence::of(task.exchange.nonce()), nonce, LOOKS);
            }
            Worker::Resuming(task) => {
                self.workers[index] = disowning(Fence::of(task.exchange.nonce()), nonce, LOOKS);
            }
            // The client asks again, if it likes; what was stored will be done.
            Worker::Submitting(_) => seen.saw(Branch::AcceptanceLost),
            Worker::Acknowledging(_) | Worker::Telling(_) => {}
            Worker::Holding(mut attempt) if attempt.is_answering() || attempt.stage == Stage::Over => {
                // The client is told the truth, and saving goes on.
                // Unless that is that an operator has to decide.
                let answer = attempt.unsaved().filter(|_| attempt.program != Program::Whimsical);
                if let Some(answer) = answer {
                    self.answer(attempt.life, Some(&answer));
                    attempt.answered = true;
                    seen.saw(Branch::AnsweredUnsaved);
                }
                attempt.hear_unknown();
                self.workers[index] = Worker::Holding(attempt);
            }
            Worker::Holding(mut attempt) => {
                attempt.write = None;
                attempt.stage = Stage::Release;
                self.go_on(index, attempt);
            }
            other => self.workers[index] = other,
        }
    }

    /// What handlers do.
    fn handle(&mut self, action: &Action, seen: &mut Branches) -> Result<(), Broken> {
        let Some(index) = action.of_handler() else { return Ok(()) };
        let Worker::Holding(mut attempt) = std::mem::replace(&mut self.workers[index], Worker::Idle) else {
            return Ok(());
        };
        let nonce = self.mint();
        match action {
            Action::Harmless(_) => self.harmless(&mut attempt, nonce, seen),
            Action::End(_, ending) => self.end(&mut attempt, *ending, nonce),
            Action::Renew(_) => {
                self.budget.spend(Kind::Renew);
                seen.saw(Branch::Renewed);
                attempt.write(Change::Renew, attempt.stage, nonce);
            }
            Action::Whim(_, whim) => {
                self.budget.spend(Kind::Whim);
                attempt.write(whims().swap_remove(*whim), Stage::Whim, nonce);
            }
            Action::Fail(_) => {
                self.budget.spend(Kind::Fail);
                attempt.stage = Stage::Release;
            }
            Action::Succeed(_) => {
                attempt.stage = Stage::Answer;
            }
            Action::Aside(_, ends) => {
                self.budget.spend(Kind::Aside);
                attempt.start_aside(*ends, nonce);
                attempt.aside = attempt.aside.filter(|task| self.is_worth_it(task, seen));
            }
            effect => self.effect(effect, &mut attempt, nonce, seen)?,
        }
        self.go_on(index, attempt);
        Ok(())
    }

    /// What cannot be taken back.
    fn effect(
        &mut self,
        action: &Action,
        attempt: &mut Attempt,
        nonce: Version,
        seen: &mut Branches,
    ) -> Result<(), Broken> {
        match action {
            Action::Charge(_) => {
                self.charge(attempt, seen)?;
                attempt.save("charge", Stage::Receipt, nonce);
            }
            Action::Book(_) => {
                if let Some(step) = attempt.next_leg() {
                    self.world.life(attempt.life).booked[leg(step).unwrap_or_default()] += 1;
                    attempt.save(step, Stage::Leg, nonce);
                }
            }
            Action::Undo(_) => {
                let step = attempt.record.left_to_undo().next().unwrap_or_default().to_owned();
                promises::of_undoing(self, attempt, &step)?;
                self.world.life(attempt.life).undone[leg(&step).unwrap_or_default()] += 1;
                attempt.write(Change::Undone { step: step.into() }, Stage::Undo, nonce);
            }
            Action::Mail(_) => {
                self.world.life(attempt.life).receipts += 1;
                attempt.save("receipt", Stage::Answer, nonce);
            }
            _ => {
                self.world.life(attempt.life).started += 1;
                attempt.stage = Stage::Running;
            }
        }
        Ok(())
    }

    /// Whether a transaction still is what it was begun for.
    fn is_worth_it(&self, task: &FencedTask, seen: &mut Branches) -> bool {
        let is = is_worth_it(task);
        seen.saw_if(!is, Branch::TransactionTooLate);
        is
    }

    fn hear_aside(&mut self, index: usize, seen: &mut Branches) {
        let Worker::Holding(mut attempt) = std::mem::replace(&mut self.workers[index], Worker::Idle) else { return };
        let Some(mut task) = attempt.aside.take() else { return };
        if !task.hear() {
            attempt.aside = Some(task).filter(|task| self.is_worth_it(task, seen));
        } else if let Some(done) = task.exchange.finish().filter(|done| done.output.is_ok()) {
            seen.saw(Branch::TransactionTook);
            if let Some(response) = done.record.as_ref().and_then(Record::response) {
                // Nothing is stored under the claim any more.
                return self.answer(attempt.life, response.body());
            }
        }
        self.workers[index] = Worker::Holding(attempt);
    }

    /// Makes the callback.
    fn tell(&mut self, index: usize, is_known: bool, seen: &mut Branches) -> Result<(), Broken> {
        let nonce = self.mint();
        let Worker::Telling(telling) = &mut self.workers[index] else { return Ok(()) };
        telling.called = true;
        let step = if is_known { CallbackStep::Delivered } else { CallbackStep::Failed { rest: LEASE } };
        telling.note(step, nonce);
        let (life, end) = (telling.life, telling.end);
        let life = self.world.life(life);
        seen.saw(if life.delivered.contains(&end) { Branch::DeliveredAgain } else { Branch::Delivered });
        if !life.delivered.contains(&end) {
            life.delivered.push(end);
        }
        promises::of_call(life, end)
    }

    fn hear_telling(&mut self, index: usize, mut telling: Telling, seen: &mut Branches) -> Result<(), Broken> {
        let Some(mut task) = telling.task.take() else { return Ok(()) };
        if !task.hear() {
            telling.task = Some(task);
            self.workers[index] = Worker::Telling(telling);
            return Ok(());
        }
        let Some(done) = task.exchange.finish() else { return Err("a callback ended without an outcome".into()) };
        seen.saw_if(!done.output, Branch::TellingOvertaken);
        if let (false, true, Some(record)) = (telling.called, done.output, done.record) {
            self.workers[index] = Worker::Telling(Telling { record, ..telling });
        }
        Ok(())
    }

    fn charge(&mut self, attempt: &Attempt, seen: &mut Branches) -> Result<(), Broken> {
        let life = self.world.life(attempt.life);
        life.calls += 1;
        if life.calls > 1 {
            seen.saw(Branch::ChargeRepeated);
        }
        promises::of_charge(self, attempt)
    }

    fn harmless(&mut self, attempt: &mut Attempt, nonce: Version, seen: &mut Branches) {
        self.budget.spend(Kind::Fail);
        // That this call did not happen says nothing of those of earlier
        // attempts: only an intent of our own may be taken back.
        if attempt.stage == (Stage::Charging { ours: true }) {
            seen.saw(Branch::Runnable);
            attempt.write(Change::Clear { step: "charge".into() }, Stage::Release, nonce);
        } else {
            attempt.stage = Stage::Release;
        }
    }

    fn end(&mut self, attempt: &mut Attempt, ending: Ending, nonce: Version) {
        match ending {
            Ending::Done => attempt.stage = Stage::Answer,
            Ending::Panic => {
                self.budget.spend(Kind::Fail);
                attempt.stage = Stage::Release;
            }
            Ending::Nothing => {
                self.budget.spend(Kind::Fail);
                self.world.life(attempt.life).started -= 1;
                attempt.write(Change::Withdraw, Stage::Over, nonce);
            }
        }
    }
}

/// Complete, or parked: for that a callback is made.
fn has_ended(record: &Record) -> bool {
    record.status() == Status::Complete || matches!(record.hold(), Hold::Parked { .. })
}

fn acknowledged(task: Task<Acknowledge, Result<(), NotAcknowledged>>, seen: &mut Branches) -> Result<(), Broken> {
    let Some(done) = task.exchange.finish() else { return Err("an acknowledgement ended without an outcome".into()) };
    seen.saw_acknowledgement(&done.output);
    Ok(())
}

impl Attempt {
    /// The background goes on asking after the client was answered.
    fn hear_unknown(&mut self) {
        if let Some(task) = &mut self.write {
            task.hear();
        }
    }
}
