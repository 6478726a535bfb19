/* What activations cost: times and readings are what these tests say they are. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "daemon/openwhisk/accounts.h"

TestSuite(accounts, .timeout = 30);

#define STEP 420000

static struct accounts *make(void)
{
    struct accounts *a;
    cr_assert_eq(accounts_new(STEP, &a), 0);
    return a;
}

static struct flow_totals flow_of(uint64_t prefetched, uint64_t demanded, uint64_t waited_ns)
{
    struct flow_totals flow = {.waited_ns = waited_ns};
    flow.bytes[FETCH_PREFETCH] = prefetched;
    flow.bytes[FETCH_DEMAND] = demanded;
    return flow;
}

static void begin(struct accounts *a, const char *id, const char *volume, struct flow_totals flow,
                  int64_t now_ms)
{
    struct ow_activation activation = {.cause = "run", .action = "guest/infer"};
    struct observed_volume observed = {0};
    (void)snprintf(activation.id, sizeof activation.id, "%s", id);
    (void)snprintf(observed.name, sizeof observed.name, "%s", volume);
    accounts_begin(a, &activation, &observed, &flow, 1, now_ms, 1700000000000);
}

static void end(struct accounts *a, const char *id, struct flow_totals flow, int64_t now_ms)
{
    accounts_end(a, id, false, &flow, now_ms);
}

/* Announced, drawn for, begun, ended: what came before is ahead, what came then is late. */
Test(accounts, one_activation)
{
    struct accounts *a = make();
    struct flow_totals flow = flow_of(100, 0, 0);
    accounts_announce(a, "pages", &flow, 1000);
    accounts_announce(a, "pages", &flow, 2500); /* said again: the lead is that of the first */
    begin(a, "1", "pages", flow_of(700, 50, 9), 3000);
    begin(a, "1", "pages", flow_of(900, 50, 9), 3500);
    end(a, "1", flow_of(720, 80, 14), 5000);
    end(a, "1", flow_of(999, 99, 99), 5010);
    cr_assert_null(accounts_closed(a, 0));
    accounts_close(a, "1");
    const struct account *account = accounts_closed(a, 0);
    cr_assert_not_null(account);
    cr_assert_eq(account->lead_ms, 2000);
    cr_assert_eq(account->ahead_bytes, 600);
    cr_assert_eq(account->flow.bytes[FETCH_PREFETCH], 20);
    cr_assert_eq(account->flow.bytes[FETCH_DEMAND], 30);
    cr_assert_eq(account->flow.waited_ns, 5);
    cr_assert_eq(account->ended_ms - account->began_ms, 2000);
    cr_assert_str_eq(account->run, "run");
    const struct accounts_totals *totals = accounts_totals(a);
    cr_assert_eq(totals->n_closed, 1);
    cr_assert_eq(totals->n_announced, 1);
    cr_assert_eq(totals->ahead_bytes, 600);
    cr_assert_eq(totals->flow.bytes[FETCH_DEMAND], 30);
    cr_assert_eq(totals->ran_ms, 2000);
    accounts_free(a);
}

/* Nobody announced it. */
Test(accounts, unannounced)
{
    struct accounts *a = make();
    begin(a, "1", "pages", flow_of(700, 0, 0), 0);
    end(a, "1", flow_of(700, 0, 0), 10);
    accounts_close(a, "1");
    cr_assert_eq(accounts_closed(a, 0)->lead_ms, -1);
    cr_assert_eq(accounts_closed(a, 0)->ahead_bytes, 0);
    cr_assert_eq(accounts_totals(a)->n_announced, 0);
    accounts_free(a);
}

/* What was drawn for a step that did not come is wasted. */
Test(accounts, wasted)
{
    struct accounts *a = make();
    char volume[OW_INSTANCE_NAME_SIZE];
    struct flow_totals flow = flow_of(100, 0, 0);
    accounts_announce(a, "pages", &flow, 0);
    cr_assert(!accounts_unclaimed(a, ACCOUNT_ANNOUNCED_MS - 1, volume));
    cr_assert(accounts_unclaimed(a, ACCOUNT_ANNOUNCED_MS, volume));
    cr_assert_str_eq(volume, "pages");
    flow = flow_of(450, 0, 0);
    accounts_waste(a, volume, &flow);
    cr_assert_eq(accounts_totals(a)->wasted_bytes, 350);
    cr_assert(!accounts_unclaimed(a, ACCOUNT_ANNOUNCED_MS, volume));
    begin(a, "1", "pages", flow, 0);
    cr_assert_eq(accounts_find(a, "1")->lead_ms, -1, "it is announced no more");
    accounts_free(a);
}

/* A result says that it has ended, the completion where it ran; that may be missed, or say that it was elsewhere. */
Test(accounts, second_acknowledgement)
{
    struct accounts *a = make();
    begin(a, "1", "pages", flow_of(0, 0, 0), 0);
    end(a, "1", flow_of(0, 0, 0), 100);
    accounts_expire(a, 5099);
    cr_assert_null(accounts_closed(a, 0));
    accounts_expire(a, 5100);
    cr_assert_not_null(accounts_closed(a, 0));
    begin(a, "2", "pages", flow_of(0, 0, 0), 0);
    end(a, "2", flow_of(0, 0, 0), 100);
    accounts_discard(a, "2");
    accounts_expire(a, STEP);
    cr_assert_eq(accounts_totals(a)->n_closed, 1);
    cr_assert_eq(accounts_totals(a)->n_lost, 0);
    accounts_free(a);
}

/* Topics have no order among them. */
Test(accounts, end_before_its_beginning)
{
    struct accounts *a = make();
    char id[OW_ID_SIZE] = "1";
    accounts_end_early(a, id);
    begin(a, "1", "pages", flow_of(0, 0, 0), 0);
    accounts_close(a, "1");
    cr_assert_eq(accounts_totals(a)->n_closed, 1);
    cr_assert_eq(accounts_totals(a)->n_lost, 0);
    accounts_free(a);
}

/* An end that is never heard of, too many at a time, more than are kept. */
Test(accounts, bounded)
{
    struct accounts *a = make();
    char id[OW_ID_SIZE];
    begin(a, "x", "pages", flow_of(0, 0, 0), 0);
    accounts_expire(a, STEP - 1);
    cr_assert_not_null(accounts_find(a, "x"));
    accounts_expire(a, STEP);
    cr_assert_null(accounts_find(a, "x"));
    cr_assert_eq(accounts_totals(a)->n_lost, 1);
    for (unsigned i = 0; i < ACCOUNTS_OPEN_MAX + 3; i++) {
        (void)snprintf(id, sizeof id, "%u", i);
        begin(a, id, "pages", flow_of(0, 0, 0), 0);
    }
    cr_assert_eq(accounts_totals(a)->n_lost, 4);
    cr_assert_null(accounts_find(a, "2"));
    cr_assert_not_null(accounts_find(a, "3"));
    for (unsigned i = 0; i < ACCOUNTS_CLOSED_MAX + 5; i++) {
        begin(a, "again", "pages", flow_of(0, 0, 0), i);
        end(a, "again", flow_of(0, 0, 0), i);
        accounts_close(a, "again");
    }
    cr_assert_null(accounts_closed(a, 4));
    cr_assert_eq(accounts_closed(a, 5)->began_ms, 5);
    cr_assert_null(accounts_closed(a, ACCOUNTS_CLOSED_MAX + 5));
    char volume[OW_INSTANCE_NAME_SIZE];
    struct flow_totals none = {0};
    for (unsigned i = 0; i < 2 * ACCOUNTS_ANNOUNCED_MAX; i++) {
        (void)snprintf(volume, sizeof volume, "volume%u", i);
        accounts_announce(a, volume, &none, 0);
    }
    accounts_free(a);
}
