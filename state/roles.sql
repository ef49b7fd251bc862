-- The roles of the history's database: run once by a superuser, in the database, before the first migration or after it.
--
--     psql --dbname tidemark --file roles.sql
--     \password tidemark_worker        and so on: none has a password yet, so none gets in
--
-- Workers make and drop partitions, and training makes those of hours of long ago; PostgreSQL lets only the owner of a
-- table do so. The processes are therefore one owner, of this schema and of nothing else.

do $$
begin
    if not exists (select from pg_roles where rolname = 'tidemark_owner') then
        create role tidemark_owner nologin;
        create role tidemark_migrate login in role tidemark_owner;
        create role tidemark_worker login in role tidemark_owner;
        create role tidemark_api login in role tidemark_owner;
        create role tidemark_reader login;
    end if;
    -- Whoever makes a table, it is the owner's.
    execute format('alter role tidemark_migrate in database %I set role tidemark_owner', current_database());
    execute format('alter role tidemark_worker in database %I set role tidemark_owner', current_database());
    execute format('alter role tidemark_api in database %I set role tidemark_owner', current_database());
    execute format('alter role tidemark_reader in database %I set default_transaction_read_only = on', current_database());
    execute format('revoke all on database %I from public', current_database());
    execute format('grant connect, temporary on database %I to tidemark_owner', current_database());
    execute format('grant connect on database %I to tidemark_reader', current_database());
    -- The processes connect before they become the owner.
    execute format('grant connect on database %I to tidemark_migrate, tidemark_worker, tidemark_api', current_database());
end
$$;

revoke create on schema public from public;
grant usage, create on schema public to tidemark_owner;
grant usage on schema public to tidemark_reader;

-- Tables that are there already, of a time before the roles.
do $$
declare
    known record;
begin
    for known in
        select c.oid::regclass as name
        from pg_class c
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
    loop
        execute format('alter table %s owner to tidemark_owner', known.name);
    end loop;
end
$$;

grant select on all tables in schema public to tidemark_reader;
alter default privileges for role tidemark_owner in schema public grant select on tables to tidemark_reader;
