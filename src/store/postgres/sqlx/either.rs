//! What is done with sqlx, for each of its versions: their types have the same names, and are
//! others.

/// Makes the pool of a store, and what its transactions do, of the types that are imported
/// where it is called; `$checked` makes a statement of one that this crate wrote.
///
/// `$transaction` and its `TransactionDriver` are public, and stand in each module: the list of the public surface
/// is read from the sources, and does not look into a macro.
macro_rules! store_on_sqlx {
    ($transaction:ident, $checked:expr) => {
        /// A pool, and how statements are run on it.
        #[derive(Clone, Debug)]
        pub(in crate::store::postgres) struct StatementPool {
            pub(in crate::store::postgres) pool: PgPool,
            /// Whether statements are prepared once for each connection.
            pub(in crate::store::postgres) prepared: bool,
        }

        #[async_trait]
        impl ConnectionPool for StatementPool {
            async fn check_out(&self) -> Result<Box<dyn columns::Connection>, StoreError> {
                match timeout(PATIENCE, self.sound()).await {
                    Ok(Ok(connection)) => Ok(Box::new(connection)),
                    Ok(Err(error)) => Err(failed(error).into_error()),
                    Err(_) => Err(unavailable(NONE_FREE)),
                }
            }
        }

        impl StatementPool {
            /// A connection that works, and that has no transaction open.
            async fn sound(&self) -> Result<Statements, Error> {
                let mut anew = false;
                loop {
                    let connection = Some(self.pool.acquire().await?);
                    let mut statements = Statements { connection, of: self.clone() };
                    match statements.is_in_transaction().await {
                        Ok(false) => return Ok(statements),
                        Ok(true) => {}
                        Err(error) if anew => return Err(error),
                        // The others may be as old.
                        Err(_) => {
                            columns::Connection::retire(Box::new(statements));
                            anew = true;
                        }
                    }
                }
            }
        }

        struct Statements {
            connection: Option<PoolConnection<Postgres>>,
            of: StatementPool,
        }

        impl Statements {
            fn connection(&mut self) -> Result<&mut PgConnection, Error> {
                self.connection.as_deref_mut().ok_or(Error::PoolClosed)
            }

            /// A `begin` of the application's that was dropped leaves a transaction of which sqlx does
            /// not know (transact-rs/sqlx#4393): what is written there is lost, and if it has failed,
            /// nothing can be written. sqlx says no more of it than whether a statement has begun a
            /// transaction; one that is not empty is refused where a transaction has failed.
            async fn is_in_transaction(&mut self) -> Result<bool, Error> {
                match self.connection()?.begin_with("SELECT").await {
                    Err(Error::BeginFailed) => Ok(false),
                    Ok(_) => Ok(true),
                    Err(error) if has_failed_before(&error) => Ok(true),
                    Err(error) => Err(error),
                }
            }
        }

        #[async_trait]
        impl columns::Connection for Statements {
            async fn query(&mut self, sql: &str, parameters: &[Parameter]) -> Result<Vec<columns::Row>, Failure> {
                let arguments = encoded(parameters).map_err(failed)?;
                let query = query_with($checked(sql), arguments).persistent(self.of.prepared);
                let rows = query.fetch_all(self.connection().map_err(failed)?).await.map_err(failed)?;
                Ok(rows.into_iter().map(|row| Box::new(row) as columns::Row).collect())
            }

            async fn execute(&mut self, sql: &str, parameters: &[Parameter]) -> Result<u64, Failure> {
                let arguments = encoded(parameters).map_err(failed)?;
                let query = query_with($checked(sql), arguments).persistent(self.of.prepared);
                let done = query.execute(self.connection().map_err(failed)?).await.map_err(failed)?;
                Ok(done.rows_affected())
            }

            async fn script(&mut self, sql: &str) -> Result<(), Failure> {
                let connection = self.connection().map_err(failed)?;
                connection.execute(raw_sql($checked(sql))).await.map_err(failed)?;
                Ok(())
            }

            fn release(mut self: Box<Self>) {
                drop(self.connection.take());
            }

            // The pool does not say how old a connection is.
            fn retire(self: Box<Self>) {
                while let Some(idle) = self.of.pool.try_acquire() {
                    drop(idle.detach());
                }
            }
        }

        impl Drop for Statements {
            fn drop(&mut self) {
                if let Some(connection) = self.connection.take() {
                    drop(connection.detach());
                }
            }
        }

        impl Columns for PgRow {
            fn boolean(&self, column: usize) -> Result<Option<bool>, StoreError> {
                read(self, column)
            }

            fn small(&self, column: usize) -> Result<Option<i32>, StoreError> {
                read(self, column)
            }

            fn integer(&self, column: usize) -> Result<Option<i64>, StoreError> {
                read(self, column)
            }

            fn text(&self, column: usize) -> Result<Option<&str>, StoreError> {
                read(self, column)
            }

            fn bytes(&self, column: usize) -> Result<Option<&[u8]>, StoreError> {
                read(self, column)
            }

            fn pieces(&self, column: usize) -> Result<Option<Vec<Bytes>>, StoreError> {
                let pieces: Option<Vec<Vec<u8>>> = read(self, column)?;
                Ok(pieces.map(|pieces| pieces.into_iter().map(Bytes::from).collect()))
            }
        }

        fn read<'r, T: Decode<'r, Postgres> + Type<Postgres>>(
            row: &'r PgRow,
            column: usize,
        ) -> Result<Option<T>, StoreError> {
            row.try_get(column).map_err(|error| not_ours("a column has another type").caused_by(error))
        }

        fn encoded(parameters: &[Parameter]) -> Result<PgArguments, Error> {
            let mut arguments = PgArguments::default();
            for parameter in parameters {
                let added = match parameter {
                    Parameter::Integer(number) => arguments.add(number),
                    Parameter::Bytes(bytes) => arguments.add(bytes),
                    Parameter::Integers(numbers) => arguments.add(numbers),
                    Parameter::Pieces(pieces) => arguments.add(pieces),
                };
                added.map_err(Error::Encode)?;
            }
            Ok(arguments)
        }

        impl $transaction {
            /// On a connection without a transaction that failed, which the application may have left
            /// there: that one is closed.
            async fn begin(pool: &PgPool) -> Result<Self, Error> {
                loop {
                    let mut begun = Self(Some(pool.acquire().await?));
                    match Manager::begin(begun.connection()?, None).await {
                        Ok(()) => return Ok(begun),
                        Err(error) if has_failed_before(&error) => {}
                        Err(error) => return Err(error),
                    }
                }
            }

            fn connection(&mut self) -> Result<&mut PgConnection, Error> {
                self.0.as_deref_mut().ok_or(Error::PoolClosed)
            }

            /// One number of a statement, or 0.
            async fn number(&mut self, statement: &str, parameters: &[Parameter]) -> Result<i64, Error> {
                // Not kept by the connection: poolers may hand it to another session.
                let query = query_with($checked(statement), encoded(parameters)?).persistent(false);
                let row = query.fetch_optional(self.connection()?).await?;
                row.map_or(Ok(0), |row| row.try_get(0))
            }

            /// Whether sqlx would end the transaction itself, and not a savepoint that was left in it,
            /// or nothing: it takes a savepoint that fails for the transaction around it.
            fn is_at_its_end(&self) -> bool {
                self.0.as_deref().is_some_and(|connection| Manager::get_transaction_depth(connection) == 1)
            }

            async fn commit(mut self) -> Result<(), CommitError> {
                if !self.is_at_its_end() {
                    let error = "the work left a savepoint open: end each one that it begins";
                    return Err(CommitError::RolledBack(unavailable(error)));
                }
                let committed = match self.connection() {
                    Ok(connection) => Manager::commit(connection).await,
                    Err(error) => Err(error),
                };
                let Err(error) = committed else {
                    self.release();
                    return Ok(());
                };
                let plain = said_by(&error)
                    .is_some_and(|said| says_rolled_back(said.severity() == PgSeverity::Error, said.code()));
                let error = failed(error).into_error();
                Err(if plain { CommitError::RolledBack(error) } else { CommitError::Unknown(error) })
            }

            /// A server that became read-only is to lose its connections, and so is one that gives no
            /// reply.
            async fn roll_back(mut self) {
                if self.is_at_its_end() && self.may_write_afterwards().await.is_ok_and(|may| may) {
                    self.release();
                }
            }

            async fn may_write_afterwards(&mut self) -> Result<bool, Error> {
                let connection = self.connection()?;
                Manager::rollback(connection).await?;
                let row = connection.fetch_one("SHOW transaction_read_only").await?;
                Ok(row.try_get::<&str, _>(0)? == "off")
            }

            /// Gives the connection back: no transaction is open on it.
            fn release(mut self) {
                drop(self.0.take());
            }
        }

        /// Out of the pool it is closed at once, which rolls back; the pool would wait until the
        /// statement that runs on it has ended.
        impl Drop for $transaction {
            fn drop(&mut self) {
                if let Some(connection) = self.0.take() {
                    drop(connection.detach());
                }
            }
        }

        /// Whether a transaction on this connection had failed before.
        fn has_failed_before(error: &Error) -> bool {
            said_by(error).is_some_and(|said| said.code() == SqlState::IN_FAILED_SQL_TRANSACTION.code())
        }

        fn said_by(error: &Error) -> Option<&PgDatabaseError> {
            error.as_database_error().and_then(|error| error.try_downcast_ref())
        }

        fn failed(error: Error) -> Failure {
            let Some(said) = said_by(&error) else {
                let closed = matches!(error, Error::Io(_) | Error::Protocol(_));
                let message = format!("Postgres, through sqlx: {error}");
                return Failure::new(None, closed, unavailable(message).caused_by(error));
            };
            let said = Said {
                code: SqlState::from_code(said.code()),
                fatal: matches!(said.severity(), PgSeverity::Fatal | PgSeverity::Panic),
                message: said.message().to_owned(),
            };
            let store_error = refused(&said.code, &said.message).caused_by(error);
            Failure::new(Some(said), false, store_error)
        }
    };
}

pub(super) use store_on_sqlx;
