import { test, expect } from "appwright";
import { id } from "../support/shop";

// The app counts its launches since it was installed or its data cleared.
test("the app starts with no data of an earlier test", async ({ device }) => {
  await device.getByText("About this app").tap();
  expect(await device.getById(id("launches"), { exact: true }).getText()).toBe("Launches: 1");
});
