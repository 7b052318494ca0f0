//! What is done with sqlx, for each of its versions: their types have the same names, and are
//! others.

/// Makes the pool of a store, and what its transactions do, of the types that are imported
/// where it is called; `$checked` makes a statement of one that this crate wrote.
///
/// Their `TransactionDriver` is public, and stands in each module: the list of the public surface
/// is read from the sources, and does not look into a macro.
macro_rules! store_on_sqlx {
    ($checked:expr) => {
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
            /// not know (transact-rs/sqlx#4393): what is written there is lost. sqlx says no more of it
            /// than whether a statement, here an empty one, has begun a transaction.
            async fn is_in_transaction(&mut self) -> Result<bool, Error> {
                match self.connection()?.begin_with("").await {
                    Err(Error::BeginFailed) => Ok(false),
                    Ok(_) => Ok(true),
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

        /// One number of a statement in a transaction, or 0.
        async fn number(
            transaction: &mut Transaction<'static, Postgres>,
            statement: &str,
            parameters: &[Parameter],
        ) -> Result<i64, Error> {
            // Not kept by the connection: poolers may hand it to another session.
            let query = query_with($checked(statement), encoded(parameters)?).persistent(false);
            let row = query.fetch_optional(&mut **transaction).await?;
            row.map_or(Ok(0), |row| row.try_get(0))
        }

        async fn commit(transaction: Transaction<'static, Postgres>) -> Result<(), CommitError> {
            transaction.commit().await.map_err(|error| {
                let plain = said_by(&error)
                    .is_some_and(|said| says_rolled_back(said.severity() == PgSeverity::Error, said.code()));
                let error = failed(error).into_error();
                if plain { CommitError::RolledBack(error) } else { CommitError::Unknown(error) }
            })
        }

        async fn roll_back(mut transaction: Transaction<'static, Postgres>) {
            // A server that became read-only is to lose its connections. The pool closes
            // those that have ended, and offers no other way to have one closed.
            let connection: &mut PgConnection = &mut transaction;
            // A savepoint that could not be begun has sqlx roll back the transaction around
            // it, and forget that: one that began here would be left open.
            let look = match connection.is_in_transaction() {
                true => "ROLLBACK; BEGIN; SHOW transaction_read_only",
                false => "ROLLBACK; SHOW transaction_read_only",
            };
            let looked = connection.fetch_one(look).await;
            if looked.is_ok_and(|row| row.try_get::<&str, _>(0).is_ok_and(|value| value == "on")) {
                let _ = connection.execute("SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())").await;
            }
            // A connection that is gone has rolled back.
            let _ = transaction.rollback().await;
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
